"""Credentials: whose word counts, and what isn't one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapchanger_serving.contract import names
from tapchanger_serving.observer import trust
from tapchanger_serving.observer.gate import REFRESH_SECONDS, RETRY_SECONDS, Gate, Keys, UnprovenError
from tapchanger_serving.observer.trust import TrustError
from tests.support.tokens import Issuer

ISSUER = Issuer()
OTHER = Issuer()
RSA = Issuer(kid="r1", curve=False)
KEYS = trust.key_set(json.dumps({"keys": [ISSUER.jwk(), RSA.jwk(), {"kty": "oct", "kid": "o", "k": "AA"}]}))


@pytest.mark.parametrize("issuer", [ISSUER, RSA])
def test_a_service_account_speaks_for_its_own_namespace(issuer: Issuer) -> None:
    now = int(time.time())
    grant = trust.verify(issuer.token("team-a", now=now), KEYS, names.OBSERVER_AUDIENCE)
    assert grant.covers("team-a")
    assert not grant.covers("team-b")
    assert grant.until == now + 3600 + trust.LEEWAY_SECONDS


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda now: OTHER.token("a", now=now), "signature"),
        (lambda now: ISSUER.token("a", now=now)[:-4] + "AAAA", "signature"),
        (lambda now: ISSUER.token("a", now=now, alg="none"), "signature"),
        (lambda now: ISSUER.token("a", now=now, alg="HS256"), "signature"),
        (lambda now: RSA.token("a", now=now, alg="ES256"), "signature"),
        (lambda now: ISSUER.token("a", now=now, alg=None), "signature"),
        (lambda _: ISSUER.secret("a"), "signature"),
        (lambda _: RSA.secret("a"), "signature"),
        (lambda now: RSA.token("a", now=now, kid="k1"), "signature"),
        (lambda now: ISSUER.token("a", now=now, aud=["https://kubernetes.default.svc"]), "audience"),
        (lambda now: ISSUER.token("a", now=now, aud=None), "has no aud"),
        (lambda now: ISSUER.token("a", now=now - 7200), "expired"),
        (lambda now: ISSUER.token("a", now=now + 7200), "not valid yet"),
        (lambda now: ISSUER.token("a", now=now, exp=None), "exp"),
        (lambda now: ISSUER.token("a", now=now, exp=True), "expired"),
        (lambda now: ISSUER.token("a", now=now, exp="soon"), "neither"),
        (lambda now: ISSUER.token("a", now=now, seconds=-trust.LEEWAY_SECONDS - 1), "expired"),
        (lambda now: ISSUER.token("a", now=now, iat=now + 7200), "not valid yet"),
        (lambda now: ISSUER.token("a", now=now, sub=None), "sub"),
        (lambda now: ISSUER.token("a", now=now, sub="admin"), "service account"),
        (lambda now: ISSUER.token("a", now=now, sub="system:serviceaccount:a:b:c"), "service account"),
        (lambda now: Issuer(kid="k9").token("a", now=now), "doesn't publish"),
        (lambda _: "a.b", "neither"),
        (lambda _: "a.b.c.d", "neither"),
        (lambda _: "bnVsbA.bnVsbA.bnVsbA", "neither"),
        (lambda _: "é.é.é", "neither"),
        (lambda _: "." * 3, "neither"),
    ],
)
def test_what_is_no_credential_is_refused_with_the_reason(made: Callable[[float], str], why: str) -> None:
    with pytest.raises(TrustError, match=why):
        trust.verify(made(time.time()), KEYS, names.OBSERVER_AUDIENCE)


def test_clocks_may_differ_by_the_leeway() -> None:
    for late in (trust.LEEWAY_SECONDS - 5, 15 - trust.LEEWAY_SECONDS):
        token = ISSUER.token("a", now=time.time() + late, seconds=0 if late < 0 else 3600)
        assert trust.verify(token, KEYS, names.OBSERVER_AUDIENCE).covers("a")


@pytest.mark.parametrize("text", ["[]", "{}", '{"keys": 1}', '{"keys": []}', '{"keys": [{"kty": "oct"}]}', "x"])
def test_what_is_no_key_set_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a JSON Web Key Set|Expecting value"):
        trust.key_set(text)


def test_only_keys_by_which_clusters_sign_are_taken() -> None:
    assert set(KEYS) == {"k1", "r1"}
    assert not trust.key_set(json.dumps({"keys": [{"kty": "oct", "kid": "o", "k": "AAAA"}]}))


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", f"Bearer {'x' * 9000}"])
def test_a_header_without_a_credential_says_what_to_send(header: str | None) -> None:
    with pytest.raises(TrustError, match=r"Authorization: Bearer TOKEN|at most 8192"):
        trust.bearer(header)


def test_a_sender_s_token_is_for_all_namespaces_or_those_that_follow_it() -> None:
    found = trust.senders({"gateway": "0123456789abcdef\n", "collector": "fedcba9876543210 team-a team-b"})
    assert found[trust.digest("0123456789abcdef")].namespaces is None
    assert found[trust.digest("fedcba9876543210")].namespaces == {"team-a", "team-b"}
    with pytest.raises(ValueError, match="short: found a token of 5 characters"):
        trust.senders({"short": "12345"})


class Cluster:
    """The API server's key set, and how often it was asked."""

    def __init__(self, *issuers: Issuer) -> None:
        self.issuers = issuers
        self.asked = 0
        self.now = time.time()

    async def fetch(self) -> str:
        self.asked += 1
        if not self.issuers:
            raise OSError("connection refused")
        return json.dumps({"keys": [one.jwk() for one in self.issuers]})

    def gate(self, kept: Path | None = None, senders: Path | None = None) -> Gate:
        return Gate(Keys(self.fetch, lambda: self.now, kept), lambda: self.now, senders)


def bearer(token: str) -> str:
    return f"Bearer {token}"


async def test_the_keys_are_asked_for_once_and_again_for_a_new_one() -> None:
    cluster = Cluster(ISSUER)
    gate = cluster.gate()
    for _ in range(3):
        assert (await gate.check(bearer(ISSUER.token("a")))).namespaces == {"a"}
    assert cluster.asked == 1
    new = Issuer(kid="k2")
    cluster.issuers = (ISSUER, new)
    cluster.now += RETRY_SECONDS
    assert (await gate.check(bearer(new.token("b")))).namespaces == {"b"}
    assert cluster.asked == 2


async def test_credentials_with_unknown_keys_do_not_make_it_ask_without_end() -> None:
    cluster = Cluster(ISSUER)
    gate = cluster.gate()
    for number in range(50):
        with pytest.raises(TrustError, match="doesn't publish"):
            await gate.check(bearer(Issuer(kid=f"x{number}").token("a")))
    assert cluster.asked == 1


async def test_a_proven_credential_is_proven_again_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, proven, verify = Cluster(ISSUER), [], trust.verify

    def counted(*given: Any) -> trust.Grant:
        proven.append(given[0])
        return verify(*given)

    gate, token = cluster.gate(), ISSUER.token("a", seconds=600)
    await gate.refresh()
    monkeypatch.setattr(trust, "verify", counted)
    for later in (0, 600 + trust.LEEWAY_SECONDS - 2, 4):
        cluster.now += later
        await gate.check(bearer(token))
    assert proven == [token, token]


async def test_a_restart_without_the_cluster_knows_the_keys_of_before(tmp_path: Path) -> None:
    cluster, kept = Cluster(ISSUER), tmp_path / "keys.json"
    await cluster.gate(kept).refresh()
    cluster.issuers = ()
    again = cluster.gate(kept)
    await again.refresh()
    assert (await again.check(bearer(ISSUER.token("a")))).covers("a")


async def test_without_any_keys_nothing_can_be_judged_and_that_is_not_a_refusal() -> None:
    cluster = Cluster()
    gate = cluster.gate()
    for _ in range(2):
        with pytest.raises(UnprovenError):
            await gate.check(bearer(ISSUER.token("a")))
    assert cluster.asked == 1
    cluster.issuers = (ISSUER,)
    cluster.now += RETRY_SECONDS
    assert (await gate.check(bearer(ISSUER.token("a")))).covers("a")


async def test_keys_that_the_cluster_gave_up_are_forgotten() -> None:
    cluster = Cluster(ISSUER)
    gate = cluster.gate()
    await gate.refresh()
    cluster.issuers = (RSA,)
    cluster.now += REFRESH_SECONDS
    await gate.refresh()
    with pytest.raises(TrustError, match="doesn't publish"):
        await gate.check(bearer(ISSUER.token("a")))


async def test_senders_tokens_are_read_again_and_kept_while_they_are_wrong(tmp_path: Path) -> None:
    cluster = Cluster(ISSUER)
    file = tmp_path / "gateway"
    file.write_text("0123456789abcdef")
    (tmp_path / "..data").mkdir()
    gate = cluster.gate(senders=tmp_path)
    await gate.refresh()
    assert (await gate.check("bearer 0123456789abcdef")).namespaces is None
    file.write_text("short")
    await gate.refresh()
    assert (await gate.check("Bearer 0123456789abcdef")).namespaces is None
    file.write_text("another-0123456789 team-a")
    await gate.refresh()
    with pytest.raises(TrustError):
        await gate.check("Bearer 0123456789abcdef")
    assert (await gate.check("Bearer another-0123456789")).namespaces == {"team-a"}


async def test_an_open_observer_asks_nobody() -> None:
    assert (await Gate(None, time.time).check(None)).covers("anything")


async def test_many_at_once_ask_the_cluster_once() -> None:
    cluster = Cluster(ISSUER)
    gate = cluster.gate()
    tokens = [ISSUER.token(f"n{number}") for number in range(20)]
    found = await asyncio.gather(*(gate.check(bearer(token)) for token in tokens))
    assert [grant.namespaces for grant in found] == [{f"n{number}"} for number in range(20)]
    assert cluster.asked == 1
