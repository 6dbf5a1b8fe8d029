"""Tells a service of a retraining run: one signed POST, repeated until it is taken or refused.

It runs in a small pod of its own, where the Secret that opens the service is mounted, so that the operator never reads it.
"""
