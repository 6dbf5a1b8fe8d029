"""What the operator, the builder, the servers and the observer agree on: names, ports, paths and messages.

This package imports nothing but Pydantic, so that every image can carry it.
"""
