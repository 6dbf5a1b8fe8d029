"""The one exception of this package: a sentence for the person at the terminal."""


class ClusterError(Exception):
    """Something that stops the command; the text says what was found and what to do."""
