"""Names by how they are written: words with a capital where none is due, and what follows words that announce a name.

Knows no names. `unclear` says where capitals tell nothing: in texts of capitals only, of small letters only, in headlines, and in
scripts that have no capitals.
"""

from __future__ import annotations

from dataclasses import dataclass

import regex
from spacy.lang.de.stop_words import STOP_WORDS as GERMAN
from spacy.lang.en.stop_words import STOP_WORDS as ENGLISH
from spacy.lang.es.stop_words import STOP_WORDS as SPANISH
from spacy.lang.fr.stop_words import STOP_WORDS as FRENCH
from spacy.lang.it.stop_words import STOP_WORDS as ITALIAN
from spacy.lang.nl.stop_words import STOP_WORDS as DUTCH
from spacy.lang.pl.stop_words import STOP_WORDS as POLISH

from tapchanger_serving.contract.capture import Names

_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*(?:['’-]\p{L}[\p{L}\p{M}]*){0,4}")
_OPENS = regex.compile(r"(?:^|[.!?…:;\n\r\t\"“”«»„(\[*•|>—–]|\s[-'‘])[\s\"“«„(\[*'‘¡¿-]*$")
"""What stands before the first word of a sentence."""
_LOOKBACK = 12


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_PARTICLES = _words("van von der den de la le del della di da dos du el al bin ibn ter ten zu und y e of the")
_TITLES = (
    "mr|mrs|ms|miss|mx|dr|prof|professor|sir|madam|lord|lady|rev|herr|herrn|frau|señor|señora|srta|sr|sra|don|doña|monsieur|madame|"
    "mme|mlle|m|signor|signora|signore|sig|pan|pani|mevrouw|meneer|hr|fr"
)
_ANNOUNCED = (
    r"my name is|name is|name's|names? (?:are|were)|named|called|call me|i am|i'm|this is|signed|dear|hi|hello|hey|thanks|cheers|"
    r"regards|sincerely|yours|attn|ich heiße|mein name ist|ich bin|liebe|lieber|hallo|grüße|grüßen|gruß|"
    r"je m'appelle|je suis|mon nom est|cher|chère|bonjour|cordialement|me llamo|mi nombre es|soy|estimado|estimada|hola|saludos|"
    r"mi chiamo|sono|il mio nome è|caro|cara|ciao|saluti|nazywam się|jestem|mam na imię|cześć|pozdrawiam"
)
_CAPITAL = r"\p{Lu}[\p{L}\p{M}'’-]{0,30}"
_CHAIN = rf"{_CAPITAL}(?:(?: (?:van|von|der|de|la|del|di|da|le|el|al|bin|y|e)){{0,2}} {_CAPITAL}|\.? \p{{Lu}}\.){{0,3}}"
_CUED = regex.compile(
    rf"(?:\b(?i:{_TITLES})\.? {{1,2}}|\b(?i:{_ANNOUNCED})\s?[,:]?\s{{1,3}})(?:(?i:{_TITLES})\.? )?({_CHAIN})"
)
_STRONG = regex.compile(
    r"\b(?i:my (?:full |first |last )?name is|call me|ich heiße|mein name ist|je m'appelle|mon nom est|me llamo|mi nombre es|"
    r"mi chiamo|nazywam się|mam na imię) ((?:\p{L}[\p{L}'’-]{1,30})(?: \p{L}[\p{L}'’-]{1,30})?)"
)
"""These announce a name also where it is written small."""
_COMMON = frozenset().union(ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, DUTCH, POLISH)
_ALWAYS_CAPITAL = _words(
    "i i'm i'll i've i'd monday tuesday wednesday thursday friday saturday sunday january february march april may june july",
    "august september october november december english german french spanish italian ok",
)
_AFTER_NAME = _words(
    "said says wrote writes called calls told tells asked asks lives lived works worked has had is was will would can and or 's",
    "sagt sagte ist war hat a dit est dijo es ha detto è",
)
_HEADLINE = 0.75
"""Share of capitals among the longer words of a text from which on it is a headline."""
_FEWEST = 3
"""Longer words have more letters than this, and a headline more of them than this."""


@dataclass(frozen=True)
class Found:
    """Where names are, as (start, end), and whether capitals tell nothing in this text."""

    spans: tuple[tuple[int, int], ...]
    unclear: bool


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    text: str
    opens: bool

    @property
    def capital(self) -> bool:
        return self.text[0].isupper() and self.text.lower() not in _ALWAYS_CAPITAL

    @property
    def shouted(self) -> bool:
        return len(self.text) > 1 and self.text.isupper()


def find(text: str, names: Names) -> Found:
    """The names in `text`, by capitals or by announcing words alone."""
    words = [
        _Word(
            hit.start(),
            hit.end(),
            hit.group(),
            bool(_OPENS.search(text[max(0, hit.start() - _LOOKBACK) : hit.start()])),
        )
        for hit in _WORD.finditer(text)
    ]
    spans = [hit.span(1) for pattern in (_CUED, _STRONG) for hit in pattern.finditer(text)]
    unclear = _unclear(words)
    if names == "Capitals" and not unclear:
        spans += _by_capitals(text, words)
    return Found(tuple(sorted(set(spans))), unclear)


def _unclear(words: list[_Word]) -> bool:
    """Whether a name would look like any other word, or any other word like a name."""
    inner = [word for word in words if not word.opens and word.text.lower() not in _ALWAYS_CAPITAL]
    letters = "".join(word.text for word in words)
    if not letters:
        return False
    if not any(sign.islower() for sign in letters) or not any(sign.isupper() for sign in letters):
        return True
    longer = [word for word in inner if len(word.text) > _FEWEST]
    capitals = sum(word.capital for word in longer)
    return len(longer) > _FEWEST and capitals > _HEADLINE * len(longer)


def _by_capitals(text: str, words: list[_Word]) -> list[tuple[int, int]]:
    """Runs of capitalised words, with particles in between; one at a sentence's start needs a second or a verb behind it."""
    spans, index = [], 0
    while index < len(words):
        if not words[index].capital:
            index += 1
            continue
        run = [words[index]]
        last = index
        while (following := _next(text, words, last)) is not None:
            run.append(words[following])
            last = following
        kept = _name_of(text, run, words[last + 1] if last + 1 < len(words) else None)
        if kept:
            spans.append((kept[0].start, kept[-1].end))
        index = last + 1
    return spans


def _next(text: str, words: list[_Word], index: int) -> int | None:
    """The next capitalised word that belongs to the same name, at most two particles on."""
    for step in range(1, 4):
        if index + step >= len(words):
            return None
        between = text[words[index + step - 1].end : words[index + step].start]
        if between not in {" ", ". ", "-", "  "}:
            return None
        if between == ". " and len(words[index + step - 1].text) > 1:
            return None
        if words[index + step].capital and not (words[index + step].opens and between != ". "):
            return index + step
        if words[index + step].text not in _PARTICLES:
            return None
    return None


def _name_of(text: str, run: list[_Word], after: _Word | None) -> list[_Word]:
    """The words of a run that make a name; none where a sentence merely begins, or for an acronym."""
    while run and run[0].opens and run[0].text.lower() in _COMMON:
        run = run[1:]
    if not run:
        return []
    if len(run) == 1 and run[0].shouted:
        return []
    if len(run) == 1 and run[0].opens:
        alone = text[run[0].end : run[0].end + 2].strip() in {"", ",", "!", ".", ":", ':"'}
        verb = after is not None and after.text.lower() in _AFTER_NAME
        possessive = run[0].text.endswith(("'s", "’s"))
        return run if verb or possessive or (alone and run[0].text.lower() not in _COMMON) else []
    return run
