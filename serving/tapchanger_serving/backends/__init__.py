"""Python-based backends of Triton: the text models, and engines for servers that have no native backend for them.

The folders in `triton/` are copied beside Triton's own backends; each holds the few lines that Triton looks for.
"""
