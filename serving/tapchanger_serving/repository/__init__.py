"""Lays out Triton's model repository from an artifact, after checking every byte of it.

`python3 -m tapchanger_serving.repository` runs as the init container of a serving pod.
"""
