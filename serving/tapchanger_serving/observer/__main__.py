"""`python -m tapchanger_serving.observer`."""

import sys

from tapchanger_serving.observer.main import main

sys.exit(main())
