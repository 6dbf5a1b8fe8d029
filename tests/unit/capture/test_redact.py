"""Nothing that a recognizer found stays in a captured text, and what can't be judged is not captured."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from faker import Faker
from hypothesis import given, settings
from hypothesis import strategies as st

from tapchanger_serving.capture import redact as module
from tapchanger_serving.capture.redact import Redactor, Span, UnsafeError, merged, placeholder, replaced
from tapchanger_serving.contract.capture import KINDS, Kind, Redaction

EVERYTHING = Redactor(Redaction(unclear="Keep"))
FAKER = Faker("en_US")
PERSONAL = st.sampled_from(
    [
        FAKER.email, FAKER.credit_card_number, FAKER.iban, FAKER.ipv4, FAKER.ipv6, FAKER.ssn, FAKER.street_address, FAKER.url,
        FAKER.phone_number, lambda: FAKER.numerify("############"), lambda: f"@{FAKER.user_name()}",
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("write to jane.doe@example.com today", "write to <EMAIL> today"),
        ("write to jane@intern.corp-net.example today", "write to <EMAIL> today"),
        ("call +44 20 7946 0958 now", "call <PHONE> now"),
        ("card 4111 1111 1111 1111 please", "card <CARD> please"),
        ("from DE89 3704 0044 0532 0130 00 please", "from <IBAN> please"),
        ("host 192.168.17.4 is down", "host <IP> is down"),
        ("host 2001:db8:85a3::8a2e:370:7334 is down", "host <IP> is down"),
        ("see https://example.com/u/jane?id=7 please", "see <URL> please"),
        ("number 457-55-5462 please", "number <NATIONAL_ID> please"),
        ("order 123456789012 is late", "order <PHONE> is late"),
        ("thanks @jane_doe for this", "thanks <HANDLE> for this"),
        ("go to 221B Baker Street please", "go to <ADDRESS> please"),
        ("in der Hauptstraße 12a ist es", "in der <ADDRESS> ist es"),
        ("au 12, rue de la Paix", "au <ADDRESS>"),
    ],
)
def test_each_kind_becomes_its_word(text: str, wanted: str) -> None:
    assert EVERYTHING.redact(text).text == wanted


def test_counts_say_how_much_was_taken_out() -> None:
    found = EVERYTHING.redact("jane@example.com and joe@example.com and 192.168.17.4")
    assert found.counts == {"email": 2, "ip": 1}


def test_a_text_without_personal_data_stays_as_it_is() -> None:
    text = "This film was not what I had hoped for, but I would see it again: 9 of 10!"
    assert Redactor(Redaction()).redact(text).text == text


def test_only_the_kinds_that_are_named_are_taken_out() -> None:
    only = Redactor(Redaction(kinds=("email",)))
    assert only.redact("jane@example.com at 192.168.17.4").text == "<EMAIL> at 192.168.17.4"


def test_personal_data_beside_personal_data_is_taken_out_too() -> None:
    text = "jane@example.com,joe@example.com;192.168.17.4 4111111111111111"
    cleaned = EVERYTHING.redact(text).text
    assert not any(part in cleaned for part in ("jane", "joe", "192", "4111"))


@settings(max_examples=60)
@given(st.lists(PERSONAL, min_size=1, max_size=4), st.text(max_size=40), st.integers(0, 10**6))
def test_nothing_that_was_found_stays_and_nothing_more_is_found_afterwards(
    makers: list[object], noise: str, seed: int
) -> None:
    FAKER.seed_instance(seed)
    pieces = [str(make()) for make in makers]  # type: ignore[operator]
    random.Random(seed).shuffle(pieces)
    text = f" {noise} ".join(["so", *pieces, "then"])
    try:
        spans = EVERYTHING.spans(text)
        cleaned = EVERYTHING.redact(text).text
    except UnsafeError:
        return  # not captured at all
    for span in spans:
        assert 0 <= span.start < span.end <= len(text)
    assert EVERYTHING.spans(cleaned, again=True) == []
    ends = [(span.start, span.end) for span in spans]
    assert ends == sorted(ends)
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


SPANS = st.builds(
    lambda start, length, kind: Span(start, start + length, kind),
    st.integers(0, 30),
    st.integers(1, 10),
    st.sampled_from(KINDS),
)


@given(st.text(min_size=40, max_size=40), st.lists(SPANS, max_size=8))
def test_what_lies_outside_of_spans_stays_and_what_lies_inside_goes(text: str, spans: list[Span]) -> None:
    apart = merged(spans)
    covered = {index for span in spans for index in range(span.start, span.end)}
    assert {index for span in apart for index in range(span.start, span.end)} == covered
    outcome = replaced(text, apart)
    rest = "".join(sign for index, sign in enumerate(text) if index not in covered)
    for span in reversed(apart):
        before = len("".join(text[i] for i in range(span.start) if i not in covered))
        at = before + sum(len(placeholder(other.kind)) for other in apart if other.start < span.start)
        assert outcome[at : at + len(placeholder(span.kind))] == placeholder(span.kind)
        outcome = outcome[:at] + outcome[at + len(placeholder(span.kind)) :]
    assert outcome == rest


def test_a_pattern_that_takes_too_long_makes_the_text_unsafe() -> None:
    """Presidio passes over such a pattern with a line in its log."""
    redactor = Redactor(Redaction(unclear="Keep"))

    class Slow:
        supported_entities = ("X",)

        def analyze(self, *_: object) -> list[object]:
            module._PRESIDIO.warning("Regex pattern 'x' timed out after 2 seconds, skipping.")
            return []

    redactor._recognizers.append(("email", Slow()))  # type: ignore[arg-type]
    with pytest.raises(UnsafeError, match="slow"):
        redactor.redact("anything")


@pytest.mark.parametrize(
    "text",
    [
        "MY NAME IS JOHN AND I AM ANGRY",
        "i told john smith about it",
        "Man Bites Dog While Mayor Sleeps Through Storm",
        "我叫王小明,住在北京",
    ],
)
def test_a_text_whose_capitals_tell_nothing_is_dropped_unless_it_may_be_kept(text: str) -> None:
    with pytest.raises(UnsafeError, match="unclear"):
        Redactor(Redaction()).redact(text)
    assert Redactor(Redaction(unclear="Keep")).redact(text)


def test_every_kind_has_a_recognizer_or_is_found_by_capitals() -> None:
    from tapchanger_serving.capture.recognizers import recognizers

    kinds: tuple[Kind, ...] = KINDS
    assert [kind for kind in kinds if not recognizers(kind, ())] == ["name"]
