"""The other observers of an installation: each got a part of the spans, and only all together answer a question."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from tapchanger_serving.contract import names
from tapchanger_serving.contract.credential import bearer
from tapchanger_serving.observer import part
from tapchanger_serving.observer.part import Part, PartError
from tapchanger_serving.observer.question import Question

PART: Final = "/v1/part"
FORWARDED: Final = "x-tapchanger-forwarded"
"""Header of a request that one observer hands on to another, which then doesn't hand it on."""
_TIMEOUT: Final = ClientTimeout(total=1.5)


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
        path = f"{PART}/watch" if watch else PART
        async with ClientSession(timeout=_TIMEOUT) as session:
            addresses = await self._addresses()
            if len(addresses) < self.replicas:
                raise PeersError(f"{len(addresses)} of {self.replicas} observers are known; ask again when all run")
            return await asyncio.gather(*(self._part(session, address, path, query) for address in addresses))

    async def _part(self, session: ClientSession, address: str, path: str, query: list[tuple[str, str]]) -> Part:
        try:
            url = f"http://{address}{path}"
            async with session.get(url, params=query, headers=self._credential()) as answer:
                answer.raise_for_status()
                return part.decode(await answer.text())
        except (ClientError, TimeoutError, OSError, PartError) as error:
            raise PeersError(f"the observer at {address} did not answer: {type(error).__name__}: {error}") from None

    async def hand_on(self, body: bytes, authorization: str | None) -> str | None:
        """Gives feedback to the others, one after the other, until one of them takes it; None where none does."""
        headers = {FORWARDED: "1", **({} if authorization is None else {"Authorization": authorization})}
        async with ClientSession(timeout=_TIMEOUT) as session:
            for address in await self._addresses():
                try:
                    async with session.post(f"http://{address}/v1/feedback", data=body, headers=headers) as answer:
                        if answer.status == 200:
                            return await answer.text()
                except (ClientError, TimeoutError, OSError):
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


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
