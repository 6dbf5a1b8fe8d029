"""Builds the container images with buildah, pushes what changed and records the digests.

`python3 -m dev.images build` needs only the standard library, so that it runs before any environment exists.
"""
