"""When a model is trained anew, how a run goes on, and what came of it: pure functions."""
