"""The resource types: Pydantic models that are the one source of the CRDs, of defaults and of validation.

This room knows no cluster and no clock. ``crds/`` is generated from it by ``python -m tapchanger_operator.api.crd``.
"""
