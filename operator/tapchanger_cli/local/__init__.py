"""Builds an engine on this machine, without a cluster: the builder's own steps, as processes where the Job has containers.

``order`` says what is asked for, ``steps`` runs the steps and reads their last words, ``folder`` keeps the outcome, ``progress``
shows what goes on. The builder is reached by its command line and the contract's messages only, as the operator reaches it.
"""
