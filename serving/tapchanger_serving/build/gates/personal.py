"""Personal data in texts: which kinds a text has. Nothing of the text itself is kept."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from tapchanger_serving.contract.evidence import PersonalKind

_GROUPS = 3
"""Parts of an IP address; `a::b` in a text is more likely something else."""
_GROUPED = re.compile(r"[ -]")

# All repetitions are bounded, so that no text makes a search slow.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])", re.ASCII)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b", re.ASCII)
_IP = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)", re.ASCII
)
_PHONE = re.compile(
    r"(?<![\w+])(?:(?:\+|00)[1-9](?:[ ()./-]{0,2}\d){7,13}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])", re.ASCII
)


def kinds_in(text: str) -> set[PersonalKind]:
    """The kinds of personal data found. What is a card number or an IBAN is not also a phone number."""
    found: set[PersonalKind] = set()
    for kind, pattern, valid in _CHECKED:
        kept = []
        start = 0
        for match in pattern.finditer(text):
            if valid(match.group()):
                found.add(kind)
                kept.append(text[start : match.start()])
                start = match.end()
        text = " ".join([*kept, text[start:]])
    return found


def _always(_: str) -> bool:
    return True


def luhn(number: str) -> bool:
    """Whether the check digit of a card's number is right (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in reversed(_GROUPED.sub("", number))]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 13616-1: the number modulo 97 is 1)."""
    plain = text.replace(" ", "")
    number = "".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])
    return len(plain) <= 34 and int(number) % 97 == 1


def _address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len([group for group in re.split(r"[:.]", text) if group]) >= _GROUPS


_CHECKED: tuple[tuple[PersonalKind, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("email", _EMAIL, _always),
    ("iban", _IBAN, iban),
    ("card", _CARD, luhn),
    ("ip", _IP, _address),
    ("phone", _PHONE, _always),
)
