"""Which writing system a text is in, by ranges of code points. Cheap: plain ASCII is told apart in one step."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Final

from tapchanger_serving.contract.drift import SCRIPTS

_LOOKED_AT: Final = 256
"""Characters of a text that are looked at."""
_RANGES: Final = (
    (0x0000, "ASCII"), (0x0080, "other"), (0x00C0, "Latin"), (0x0250, "other"), (0x0370, "Greek"), (0x0400, "Cyrillic"),
    (0x0530, "other"), (0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0780, "other"), (0x0900, "Indic"), (0x0E00, "Thai"),
    (0x0E80, "other"), (0x1100, "Hangul"), (0x1200, "other"), (0x1E00, "Latin"), (0x1F00, "Greek"), (0x2000, "other"),
    (0x2190, "symbols"), (0x2C00, "other"), (0x3040, "Kana"), (0x3100, "Han"), (0x3130, "Hangul"), (0x3190, "Han"),
    (0xA000, "other"), (0xAC00, "Hangul"), (0xD7B0, "other"), (0xF900, "Han"), (0xFB00, "other"), (0xFB50, "Arabic"),
    (0xFE00, "other"), (0xFE70, "Arabic"), (0xFF00, "other"), (0x1F000, "symbols"), (0x20000, "Han"), (0x30000, "other"),
)  # fmt: skip
_STARTS: Final = tuple(start for start, _ in _RANGES)
_NAMES: Final = tuple(name for _, name in _RANGES)
_NUMBER: Final = {name: number for number, name in enumerate(SCRIPTS)}


def script_of(text: str) -> int:
    """The number in :data:`~tapchanger_serving.contract.drift.SCRIPTS` of the script that most of the text is in.

    ASCII counts for another script where that has at least a fifth of the letters, as names and loan words are common.
    """
    head = text[:_LOOKED_AT]
    if head.isascii():
        if not head.strip():
            return _NUMBER["empty"]
        return _NUMBER["ASCII" if any(map(str.isalpha, head)) else "no letters"]
    found = Counter(_NAMES[bisect_right(_STARTS, ord(letter)) - 1] for letter in head if not letter.isspace())
    plain = sum(letter.isascii() and letter.isalpha() for letter in head)
    found.pop("ASCII", None)
    others = [(number, name) for name, number in found.most_common() if name != "other" or not plain]
    if not others:
        return _NUMBER["ASCII"]
    number, name = others[0]
    foreign = name not in ("Latin", "symbols")
    if foreign and 5 * number < plain + number:
        return _NUMBER["ASCII"]
    return _NUMBER[name]
