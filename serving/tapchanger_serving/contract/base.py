"""The base of all that operator, builder, servers and observer say to each other."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Message(BaseModel):
    """Base of all messages: frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def dumps(self) -> str:
        """Compact JSON with camelCase keys; fields that are unset or None are left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)
