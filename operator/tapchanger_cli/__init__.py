"""The `tapchanger` command, which is `kubectl tapchanger` too: shows a rollout, explains it and steers it.

In a cluster it reads TransformerDeployments and patches their annotations, nothing else; the operator carries the orders out.
``build`` and ``local`` make an engine without a cluster.
``entry`` is where it starts. ``cluster`` is the one module that talks to an API server; ``orders``, ``documents``, ``advice``
and the ``view`` modules are pure.
"""
