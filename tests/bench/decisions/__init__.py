"""Deciders on canaries compared on the same simulated requests: `python -m tests.bench.decisions`."""
