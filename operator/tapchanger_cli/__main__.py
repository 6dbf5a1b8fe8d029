"""`python -m tapchanger_cli`."""

from tapchanger_cli.entry import tapchanger

tapchanger()
