"""Engines: one loaded model behind one small interface, whichever runtime runs it.

The build measures engines through this package and the servers answer with it, so what was measured is what serves.
Runtimes are imported when an engine of theirs is opened, never before.
"""

from tapchanger_serving.engines.base import Engine, EngineSpec, UnsupportedRuntimeError, open_engine

__all__ = ["Engine", "EngineSpec", "UnsupportedRuntimeError", "open_engine"]
