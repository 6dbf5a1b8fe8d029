"""A client for registries that speak the OCI distribution specification: manifests, blobs and logins.

Every byte is checked against the digest that names it. See https://github.com/opencontainers/distribution-spec.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tapchanger_serving.build.limits import Budget, Patience
from tapchanger_serving.build.transport.http import TIMEOUT, RefusedError, download, passing, retry_after

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DOCKER_CONFIG = "TAPCHANGER_DOCKER_CONFIG"
"""Environment variable that names the file with logins to registries."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFEST_LIMIT = 4 << 20
_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_DOCKER_HUB = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_UNAUTHORIZED = 401


class RegistryError(Exception):
    """The registry's answer breaks the specification, or is not what its digest says."""


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password, or a token that stands for both."""

    name: str = ""
    password: str = ""
    token: str = ""

    def basic(self) -> str:
        """The value of an `Authorization` header; empty where there is no password."""
        pair = base64.b64encode(f"{self.name}:{self.password}".encode()).decode()
        return f"Basic {pair}" if self.password else ""


def login_for(host: str, config: Path | None, environ: Mapping[str, str] = os.environ) -> Login:
    """The login for `host` in a Docker `config.json`, else `OCI_USERNAME` and `OCI_PASSWORD`.

    Raises ValueError where the file can't be read as such; its content is never part of the text.
    """
    entry: dict[str, Any] = {}
    if config is not None:
        try:
            entries = json.loads(config.read_text(encoding="utf-8"))["auths"]
            keys = (host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/")
            aliases = ("docker.io", "https://index.docker.io/v1/") if host in _DOCKER_HUB.values() else ()
            entry = next((entries[key] for key in (*keys, *aliases) if key in entries), {})
            if entry.get("auth"):
                name, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
                return Login(name, password, entry.get("identitytoken", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the login file is no Docker config.json ({type(error).__name__})") from None
    if entry:
        return Login(entry.get("username", ""), entry.get("password", ""), entry.get("identitytoken", ""))
    return Login(environ.get("OCI_USERNAME", ""), environ.get("OCI_PASSWORD", ""))


def base_url(host: str, plain: str = "") -> str:
    """Where the registry answers. `plain` lists hosts, separated by commas, that speak HTTP beside this machine's own."""
    name = host.rpartition(":")[0] or host
    scheme = "http" if name in _LOCAL or host in plain.split(",") else "https"
    return f"{scheme}://{_DOCKER_HUB.get(host, host)}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A small answer."""

    headers: httpx.Headers
    body: bytes


@dataclass
class Registry:
    """One repository of one registry. Raises RefusedError, RegistryError, and StepError as `budget` and `patience` do."""

    url: str
    repository: str
    login: Login
    budget: Budget
    patience: Patience
    client: httpx.Client = field(default_factory=lambda: httpx.Client(follow_redirects=True, timeout=TIMEOUT))
    _authorization: str = ""

    def manifest(self, reference: str) -> tuple[str, dict[str, Any]]:
        """The digest and the content of the manifest or index that a tag or a digest names."""
        body = self.ask("GET", f"manifests/{reference}", {"Accept": ", ".join((*MANIFESTS, *INDEXES))}).body
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if DIGEST.fullmatch(reference) and digest != reference:
            raise RegistryError(f"the registry gave {digest} for the manifest {reference}")
        try:
            content = json.loads(body)
        except ValueError as error:
            raise RegistryError(f"the manifest of {reference} is no JSON") from error
        if not isinstance(content, dict):
            raise RegistryError(f"the manifest of {reference} holds no object")
        return digest, content

    def blob(self, digest: str, size: int, target: Path) -> None:
        """Downloads a blob of `size` bytes, which goes on where a connection breaks."""
        found = download(
            lambda headers: self._open("GET", f"blobs/{digest}", headers), target, self.budget, self.patience, size
        )
        if f"sha256:{found}" != digest:
            raise RegistryError(f"the registry gave sha256:{found} for the blob {digest}")

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Reply:
        """A request that is repeated while that may help, with a small answer. `path` is the repository's, or an address."""
        while True:
            self.budget.in_time()
            wanted = 0.0
            try:
                with self._open(method, path, headers or {}, content) as answer:
                    if answer.is_success:
                        return Reply(answer.headers, _bounded(answer))
                    why, wanted = f"HTTP {answer.status_code} {answer.reason_phrase}".strip(), retry_after(answer)
                    if not passing(answer.status_code):
                        raise RefusedError(answer.status_code, answer.reason_phrase)
            except httpx.TransportError as error:
                why = str(error) or type(error).__name__
            self.patience.failed(why, wanted)

    @contextmanager
    def _open(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Iterator[httpx.Response]:
        """One request; where the registry asks for a login, it logs in and asks again."""
        url = path if "://" in path else f"{self.url}/v2/{self.repository}/{path}"
        with self._stream(method, url, headers, content) as answer:
            challenge = answer.headers.get("WWW-Authenticate", "")
            if answer.status_code != _UNAUTHORIZED or not challenge:
                yield answer
                return
        self._authorization = self._authorize(challenge)
        with self._stream(method, url, headers, content) as answer:
            yield answer

    def _stream(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> AbstractContextManager[httpx.Response]:
        # Where an upload goes on may be another server, which is no business of this login.
        own = urlsplit(url).netloc == urlsplit(self.url).netloc
        login = {"Authorization": self._authorization} if self._authorization and own else {}
        return self.client.stream(method, url, headers={**headers, **login}, content=content)

    def _authorize(self, challenge: str) -> str:
        """The `Authorization` header that a `WWW-Authenticate` header asks for (RFC 7235, and the token specification)."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            return self.login.basic()
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.pop("realm", "")
        # A password goes nowhere in plain text, unless the registry itself is plain.
        if kind.lower() != "bearer" or urlsplit(realm).scheme not in ("https", urlsplit(self.url).scheme):
            raise RegistryError(f"the registry asks for a login of an unknown kind: {kind} at {realm or 'no address'}")
        asked = {key: value for key, value in fields.items() if key in ("service", "scope")}
        asked.setdefault("scope", f"repository:{self.repository}:pull")
        if self.login.token:
            form = {
                **asked,
                "grant_type": "refresh_token",
                "refresh_token": self.login.token,
                "client_id": "tapchanger",
            }
            answer = self.client.post(realm, data=form)
        else:
            basic = self.login.basic()
            answer = self.client.get(realm, params=asked, headers={"Authorization": basic} if basic else {})
        if not answer.is_success:
            raise RefusedError(answer.status_code, f"{answer.reason_phrase} at the login")
        try:
            said = answer.json()
            return f"Bearer {said.get('token') or said['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError("the login gave no token") from error


def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > _MANIFEST_LIMIT:
            raise RegistryError(f"the manifest has more than {_MANIFEST_LIMIT} bytes")
    return bytes(body)
