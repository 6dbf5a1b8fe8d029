"""Starts tritonserver and stands in for what it lacks when something beside it fails.

Measured with tritonserver 2.51 (see docs/serving.md): a trace receiver that refuses connections corrupts its memory,
after which it dies or answers nothing while it reports that it is ready; and when the process of a Python model dies,
the model fails every request for good, while the server reports that it is ready. So traces go to a relay that
never refuses, and a lost process ends the container, which the kubelet starts again.
"""
