"""``python -m tapchanger_operator``: runs the operator."""

import sys

from tapchanger_operator.main import run

if __name__ == "__main__":
    try:
        run()
    except ValueError as problem:
        sys.exit(str(problem))
