"""`python -m tapchanger_cli`."""

from tapchanger_cli.app import tapchanger_main

tapchanger_main()
