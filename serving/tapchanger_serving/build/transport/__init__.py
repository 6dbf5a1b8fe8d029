"""How bytes travel: downloads that go on where they broke off, object stores by their own clients, and OCI registries.

The rule of this package: it knows neither checkpoints nor engines, so that servers can carry it without the rest of the builder.
"""
