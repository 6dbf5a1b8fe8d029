"""Builds an engine from a checkpoint, in steps that run as containers of one Job.

`inspect` reads what a checkpoint is; `fetch` copies and verifies it; `export` turns it into ONNX and writes down PyTorch's
own answers; `measure` makes the candidates, times them beside PyTorch, compares their answers, and stores the one chosen.

The rule of this package: PyTorch and the runtimes are imported only by the steps that need them, so `inspect` stays fast.
"""
