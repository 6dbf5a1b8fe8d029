"""Starts tritonserver without its tracer, and ends when the process of one of its models has died.

Both were measured with tritonserver 2.51 (docs/adr/0008-own-server-spans.md): its tracer frees memory that is still in use, after
which the server dies or answers nothing while it reports that it is ready; and when the process of a Python model
dies, that model fails every request for good, while the server reports that it is ready.
"""
