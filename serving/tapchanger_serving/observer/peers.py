"""The other observers of an installation: each got a part of the spans, and only all together answer a question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import ValidationError

from tapchanger_serving.contract import names
from tapchanger_serving.contract.credential import bearer
from tapchanger_serving.contract.drift import DriftWindow
from tapchanger_serving.contract.feedback import Feedback, FeedbackAnswer
from tapchanger_serving.observer import part
from tapchanger_serving.observer.part import Part
from tapchanger_serving.observer.question import Question
from tapchanger_serving.observer.windows import Key

PART: Final = "/v1/part"
DRIFT: Final = "/v1/drift"
FORWARDED: Final = "x-tapchanger-forwarded"
"""Header of a request that one observer hands on to another, which then doesn't hand it on."""
_TIMEOUT: Final = ClientTimeout(total=1.5)
Told = TypeVar("Told")


class PeersError(Exception):
    """Not all observers answered, so nobody knows the whole. The message says which didn't."""


@dataclass(frozen=True)
class Peers:
    """All observers, this one too: `replicas` of them, at `hosts` (`HOST` or `HOST:PORT`; a name may have many addresses).

    `token` is the file with the credential that they show each other.
    """

    hosts: tuple[str, ...]
    replicas: int
    token: Path | None = None

    async def parts(self, asked: Question, *, watch: bool) -> list[Part]:
        """What each has to answer with; with `watch` they remember the thresholds. Raises PeersError."""
        query: list[tuple[str, str]] = [
            ("namespace", asked.namespace),
            ("deployment", asked.deployment),
            ("since", repr(asked.since)),
            ("until", repr(asked.until)),
            *(("latency", repr(threshold)) for threshold in asked.thresholds),
        ]
        return await self._all(f"{PART}/watch" if watch else PART, query, part.decode)

    async def drift(self, key: Key, since: float) -> list[DriftWindow]:
        """What each was told of a revision's texts since `since` (Unix seconds). Raises PeersError."""
        query = [*key._asdict().items(), ("since", repr(since))]
        return await self._all(DRIFT, query, DriftWindow.model_validate_json)

    async def _all(self, path: str, query: list[tuple[str, str]], read: Callable[[str], Told]) -> list[Told]:
        """Every observer's own answer, in the order of their addresses."""
        async with ClientSession(timeout=_TIMEOUT) as session:
            addresses = await self._addresses()
            if len(addresses) < self.replicas:
                raise PeersError(f"{len(addresses)} of {self.replicas} observers are known; ask again when all run")

            async def one(address: str) -> Told:
                headers = {FORWARDED: "1", **self._credential()}
                try:
                    async with session.get(f"http://{address}{path}", params=query, headers=headers) as answer:
                        answer.raise_for_status()
                        return read(await answer.text())
                except (ClientError, TimeoutError, OSError, ValueError) as error:
                    why = f"{type(error).__name__}: {error}"[:300]
                    raise PeersError(f"the observer at {address} did not answer: {why}") from None

            return await asyncio.gather(*(one(address) for address in addresses))

    async def hand_on(self, item: Feedback, authorization: str | None) -> str | None:
        """Gives feedback to the others, one after the other, until one of them takes it; what became of it there, None where
        none does.
        """
        headers = {FORWARDED: "1", **({} if authorization is None else {"Authorization": authorization})}
        async with ClientSession(timeout=_TIMEOUT) as session:
            for address in await self._addresses():
                try:
                    url = f"http://{address}/v1/feedback"
                    async with session.post(url, data=item.dumps(), headers=headers) as answer:
                        if answer.status == 200:
                            return _fate(FeedbackAnswer.model_validate_json(await answer.text()))
                except (ClientError, TimeoutError, OSError, ValidationError):
                    continue
        return None

    def _credential(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": bearer(self.token)}

    async def _addresses(self) -> list[str]:
        """Where the observers are. Raises PeersError where a name leads nowhere."""
        loop = asyncio.get_running_loop()
        found = set()
        for one in self.hosts:
            host, _, port = one.partition(":")
            try:
                resolved = await loop.getaddrinfo(host, int(port or names.OBSERVER_API_PORT), proto=6)
            except OSError as error:
                raise PeersError(f"{host}: {error}") from None
            found |= {_address(str(to[0]), int(to[1])) for *_, to in resolved}
        return sorted(found)


def _fate(answer: FeedbackAnswer) -> str:
    if answer.replaced:
        return "replaced"
    return "counted" if answer.counted else "duplicate"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
