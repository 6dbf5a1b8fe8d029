"""How long a test waits for what is bound to come."""

from __future__ import annotations

from typing import Final

#: Seconds. Tests run on time that others leave, where a second of work can take a minute: a test that doesn't ask how
#: long something takes waits for this.
PATIENCE: Final = 600.0
