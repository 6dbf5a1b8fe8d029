"""What a load sends, where to, and when."""

from __future__ import annotations

import fractions
import ipaddress
import itertools
import json
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Protocol = Literal["grpc", "grpc-stream", "http"]
Arrivals = Literal["even", "poisson"]

LONGEST_SECONDS = 3600.0


@dataclass(frozen=True)
class Plan:
    """Sends `texts` in turn, one a request, `rate` requests a second, to model `model` at `address` (HOST:PORT).

    With `user_header` each text is sent by a user of its own: the header (gRPC: metadata) says `user-` and its number. A part
    `marked` (0 to 1) of the texts carries `mark` at its end, evenly spread. It ends by itself after `seconds`, and
    after `limit` requests where one is given; a request that takes `patience` seconds has failed. `arrivals` are evenly
    spaced, or those of a Poisson process of that rate. Only addresses of this machine are taken, unless `allow_remote`
    (a Service of a cluster has none: its address belongs to no machine).

    Raises ValueError for what makes no sense.
    """

    address: str
    protocol: Protocol
    model: str
    texts: tuple[str, ...]
    rate: float
    connections: int = 4
    seconds: float = 600.0
    limit: int | None = None
    patience: float = 30.0
    arrivals: Arrivals = "even"
    seed: int = 0
    mark: str = ""
    marked: float = 0.0
    allow_remote: bool = False
    user_header: str = ""

    def __post_init__(self) -> None:
        wrong = {
            "texts": (not self.texts, "at least one text"),
            "rate": (not 0 < self.rate <= 10_000, "requests a second, up to 10000"),
            "connections": (not 1 <= self.connections <= 1000, "1 to 1000"),
            "seconds": (not 0 < self.seconds <= LONGEST_SECONDS, f"up to {LONGEST_SECONDS:.0f}"),
            "limit": (self.limit is not None and self.limit < 1, "at least 1 request, or none for no limit"),
            "patience": (not 0 < self.patience <= 300, "up to 300 seconds"),
            "marked": (not 0 <= self.marked <= 1, "a part between 0 and 1"),
            "mark": (self.marked > 0 and not self.mark, "the text to add, since `marked` is not 0"),
        }
        for field, (is_wrong, advice) in wrong.items():
            if is_wrong:
                raise ValueError(f"{field}: found {getattr(self, field)!r}; write {advice}")
        host, port = self.endpoint
        if not self.allow_remote and (strange := [found for found in _resolved(host, port) if not _is_own(found)]):
            raise ValueError(
                f"address: {host} is {', '.join(strange)}, which is not this machine; allow remote addresses "
                "(--allow-remote) if you may put load on it"
            )

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port. Raises ValueError where the address is not HOST:PORT."""
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or "/" in host or not port.isdigit():
            raise ValueError(f"address: found {self.address!r}; write HOST:PORT")
        return host.strip("[]"), int(port)

    def sent_texts(self) -> list[str]:
        """The texts as they are sent, the mark on each at which the running total of `marked` passes a whole."""
        part = fractions.Fraction(self.marked).limit_denominator(1000)
        return [
            text + self.mark if int((number + 1) * part) > int(number * part) else text
            for number, text in enumerate(self.texts)
        ]

    def headers(self, text: int) -> dict[str, str]:
        """The headers that go with the text of a number."""
        return {self.user_header: f"user-{text}"} if self.user_header else {}

    def due(self) -> Iterator[float]:
        """Seconds from the start at which requests are due."""
        times = (
            _poisson(self.rate, self.seed) if self.arrivals == "poisson" else (n / self.rate for n in itertools.count())
        )
        within = itertools.takewhile(lambda at: at < self.seconds, times)
        return itertools.islice(within, self.limit)

    def dumps(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Plan:
        """The plan that :meth:`dumps` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "texts": tuple(fields["texts"])})


def _poisson(rate: float, seed: int) -> Iterator[float]:
    order, at = random.Random(seed), 0.0
    while True:
        at += order.expovariate(rate)
        yield at


def _resolved(host: str, port: int) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as problem:
        raise ValueError(f"address: {host} has no address: {problem}") from problem
    return sorted({str(entry[4][0]) for entry in found})


def _is_own(address: str) -> bool:
    """Whether a socket of this machine can have this address; no packet is sent."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback:
        return True
    with socket.socket(socket.AF_INET6 if parsed.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return not parsed.is_unspecified
