"""The serving side of tapchanger: engine builds, the Triton model repository, backends and the observer.

``contract`` holds the names and messages that the operator shares; nothing here imports the operator.
"""
