"""Asks every sender for its credential, and remembers those that were proven."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import jwt
from aiohttp import ClientError, ClientSession, ClientTimeout

from tapchanger_serving.contract import names
from tapchanger_serving.observer import trust
from tapchanger_serving.observer.logs import fields
from tapchanger_serving.observer.trust import EVERYTHING, Grant, UnknownKeyError

log = logging.getLogger("tapchanger.observer")

REMEMBERED: Final = 4_096
"""Proven credentials; further ones are proven again each time they come."""
REFRESH_SECONDS: Final = 3_600.0
RETRY_SECONDS: Final = 10.0
"""How often the keys are asked for at most, however many credentials name an unknown one."""
_TIMEOUT: Final = ClientTimeout(total=5)

Fetch = Callable[[], Awaitable[str]]


class UnprovenError(Exception):
    """A credential that can't be judged now, because the cluster's keys can't be had; it may be good."""


class Keys:
    """The keys with which the cluster signs its tokens: asked for when needed, kept in a file for when it can't be asked.

    `clock` gives Unix seconds.
    """

    def __init__(self, fetch: Fetch, clock: Callable[[], float], kept: Path | None = None) -> None:
        self._fetch = fetch
        self._clock = clock
        self._kept = kept
        self._asked = float("-inf")
        self._lock = asyncio.Lock()
        self.known: dict[str, jwt.PyJWK] = {}
        if kept is not None:
            try:
                self.known = trust.key_set(kept.read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                log.warning("the kept keys can't be read", extra=fields(path=kept, error=str(error)))

    async def refresh(self, *, older_than: float = RETRY_SECONDS) -> None:
        """Ask the cluster again, unless it was asked in the last `older_than` seconds. What can't be had is logged."""
        async with self._lock:
            if self._clock() - self._asked < older_than:
                return
            self._asked = self._clock()
            try:
                text = await self._fetch()
                self.known = trust.key_set(text)
            except (ClientError, TimeoutError, OSError, ValueError) as error:
                log.warning("the cluster's keys can't be had", extra=fields(error=f"{type(error).__name__}: {error}"))
                return
            if self._kept is not None:
                await asyncio.to_thread(_keep, self._kept, text)


def _keep(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        log.warning("the keys could not be kept", extra=fields(path=path, error=str(error)))


class Gate:
    """Decides what a sender may tell of. Without `keys` nobody is asked for a credential.

    `clock` (Unix seconds) says how long a proven credential is remembered.
    """

    def __init__(self, keys: Keys | None, clock: Callable[[], float], senders: Path | None = None) -> None:
        self._keys = keys
        self._clock = clock
        self._folder = senders
        self._senders: dict[bytes, Grant] = {}
        self._proven: dict[bytes, Grant] = {}

    @property
    def asks(self) -> bool:
        """Whether credentials are asked for."""
        return self._keys is not None

    async def check(self, header: str | None) -> Grant:
        """What the `Authorization` header of a request grants.

        Raises TrustError for no credential or a wrong one, UnprovenError for one that can't be judged now.
        """
        if self._keys is None:
            return EVERYTHING
        token = trust.bearer(header)
        digest = trust.digest(token)
        known = self._senders.get(digest) or self._proven.get(digest)
        if known is not None and self._clock() < known.until:
            return known
        granted = await self._prove(token, self._keys)
        if len(self._proven) >= REMEMBERED:
            self._proven.clear()
        self._proven[digest] = granted
        return granted

    async def _prove(self, token: str, keys: Keys) -> Grant:
        try:
            return trust.verify(token, keys.known, names.OBSERVER_AUDIENCE)
        except UnknownKeyError:
            await keys.refresh()
        if not keys.known:
            raise UnprovenError("the cluster's keys can't be had, so no credential can be judged now")
        return trust.verify(token, keys.known, names.OBSERVER_AUDIENCE)

    async def refresh(self) -> None:
        """Reads senders' tokens again, and now and then the keys. Called every few seconds."""
        if self._keys is None:
            return
        await self._keys.refresh(older_than=REFRESH_SECONDS if self._keys.known else RETRY_SECONDS)
        if self._folder is not None:
            self._senders = await asyncio.to_thread(_read, self._folder, self._senders)


def _read(folder: Path, before: dict[bytes, Grant]) -> dict[bytes, Grant]:
    """The tokens in a folder, as a Secret's volume has them; those of `before` where it can't be read."""
    try:
        files = {
            path.name: path.read_text(encoding="utf-8")
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.is_file()
        }
        return trust.senders(files)
    except (OSError, ValueError) as error:
        log.warning("the senders' tokens can't be read", extra=fields(path=folder, error=str(error)))
        return before


def from_cluster(url: str, account: Path) -> Fetch:
    """Fetches the cluster's key set. An API server (https) is asked as the service account whose folder `account` is."""

    async def fetch() -> str:
        headers: dict[str, str] = {}
        context: ssl.SSLContext | bool = True
        if url.startswith("https:"):
            context = ssl.create_default_context(cafile=str(account / "ca.crt"))
            headers = {"Authorization": f"Bearer {(account / 'token').read_text(encoding='ascii').strip()}"}
        async with (
            ClientSession(timeout=_TIMEOUT) as session,
            session.get(url, headers=headers, ssl=context) as answer,
        ):
            answer.raise_for_status()
            return await answer.text()

    return fetch
