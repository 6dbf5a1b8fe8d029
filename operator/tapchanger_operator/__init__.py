"""The tapchanger operator: one level-triggered reconcile per object, pure in the middle.

Rooms, in the order in which a change of spec passes through them: ``api`` (the resource types), ``resolve`` (what the
spec means), ``plan`` (the objects that ought to exist), ``apply`` (server-side apply), ``observe`` (one frozen
snapshot of the world), ``decide`` (verdicts and rollout steps) and ``status`` (what is told to people).
"""
