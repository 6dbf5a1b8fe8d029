"""Open-loop load on a served model: requests leave on time, whether or not earlier ones have been answered.

The sender runs in a process of its own and never retries, so that what it notes is what a user would have felt. On the
command line: `python -m dev.load --help`.
"""

from dev.load.control import Load
from dev.load.plan import Plan
from dev.load.records import Record, Records

__all__ = ["Load", "Plan", "Record", "Records"]
