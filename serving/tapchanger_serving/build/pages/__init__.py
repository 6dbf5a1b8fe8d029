"""What people read of a finished build: a page with plots, and a model card in the Hub's format.

Both are pure functions of :class:`Built`. They take the report in its wire form, so that what a report has and the page has no
drawing for is still shown. Every text in it is foreign: labels, addresses and messages come from checkpoints, data and users.
"""

from tapchanger_serving.build.pages.built import Built

__all__ = ["Built"]
