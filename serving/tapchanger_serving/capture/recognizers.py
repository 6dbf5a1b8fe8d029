"""What finds personal data: Presidio's recognizers, and a few of our own where Presidio needs a language model or a context.

No model is shipped (docs/capture.md says what that misses). Presidio's recognizers are asked one by one: its engine adds a
language, context words and thresholds, which need a pipeline of spaCy.
"""

from __future__ import annotations

import regex
from presidio_analyzer import EntityRecognizer, Pattern, PatternRecognizer, RecognizerResult
from presidio_analyzer import predefined_recognizers as presidio

from tapchanger_serving.contract.capture import Kind

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "BR", "IN", "AU", "MX", "JP")
"""Whose phone numbers are known without the country's prefix."""
_SHORTEST_PHONE = 7
LEAST = 0.3
"""Presidio's score below which a hit needs a word beside it that confirms it; with a check digit or a clear form it is higher."""

_NATIONAL = (
    presidio.UsSsnRecognizer, presidio.UsItinRecognizer, presidio.UkNinoRecognizer, presidio.NhsRecognizer,
    presidio.EsNifRecognizer, presidio.EsNieRecognizer, presidio.ItFiscalCodeRecognizer, presidio.PlPeselRecognizer,
    presidio.DeTaxIdRecognizer, presidio.DeSocialSecurityRecognizer, presidio.FiPersonalIdentityCodeRecognizer,
    presidio.SePersonnummerRecognizer, presidio.InAadhaarRecognizer, presidio.InPanRecognizer, presidio.SgFinRecognizer,
    presidio.KrRrnRecognizer, presidio.AuTfnRecognizer, presidio.CaSinRecognizer, presidio.TrNationalIdRecognizer,
)  # fmt: skip

# All repetitions are bounded, so that no text makes a search slow.
_STREET = (
    r"street|st|road|rd|avenue|ave|lane|ln|drive|dr|court|ct|boulevard|blvd|square|sq|place|pl|way|terrace|close|crescent|"
    r"parkway|pkwy|highway|hwy|trail|circle|plaza|row|walk|gardens?|grove|mews|plains?|ridge|point|path|pass|loop|alley|estates?|"
    r"isle|common|corners?|cove|creek|crossing|falls|ferry|fields?|flats?|ford|forest|forges?|glens?|greens?|groves?|harbors?|"
    r"haven|heights|hills?|hollow|inlet|islands?|junctions?|keys?|knolls?|lakes?|landing|locks?|lodge|manors?|meadows?|mills?|"
    r"mission|motorway|mountains?|neck|orchard|oval|parks?|pike|pines?|port|prairie|ramp|ranch|rapids?|rest|rue|shoals?|shores?|"
    r"springs?|spurs?|station|stravenue|stream|summit|throughway|trace|track|trafficway|tunnel|turnpike|underpass|unions?|"
    r"valleys?|viaduct|views?|villages?|ville|vista|wells?"
)
_WORD = r"[\p{L}.'’-]{1,30}"
_ADDRESSES = (
    # 221B Baker Street, 77 Long Meadow Road Apt. 4
    Pattern(
        "house number first",
        rf"(?i)\b\d{{1,5}}[a-z]?,?(?: {_WORD}){{1,4}} (?:{_STREET})\b\.?"
        r"(?:,? (?:apt|suite|flat|unit)\.? ?\w{1,6})?",
        0.6,
    ),
    # Hauptstraße 12a, Am Marktplatz 3
    Pattern(
        "street in one word",
        r"\b(?:\p{Lu}[\p{L}.-]{1,30} ){0,2}(?:\p{Lu}[\p{L}.-]{0,30})?"
        r"(?i:stra(?:ß|ss)e|str\.|gasse|allee|platz|weg|ring|damm|ufer|gatan|vägen|straat|laan|plein) ?\d{1,4} ?[a-z]?\b",
        0.6,
    ),
    # 12, rue de la Paix; avenue Victor Hugo, 3; Calle Mayor 5; Via Roma, 10; ul. Długa 3
    Pattern(
        "kind of street first",
        r"(?i)\b(?:\d{1,4}(?: ?bis)?,? )?"
        r"(?:rue|avenue|av\.|boulevard|bd|chemin|allée|impasse|quai|cours|route|calle|c/|avenida|avda\.?|paseo|plaza|ronda|rambla|"
        r"glorieta|camino|cuesta|urbanización|pasaje|callejón|alameda|acceso|cañada|via|viale|piazza|corso|strada|vicolo|borgo|"
        r"contrada|incrocio|rotonda|canale|stretto|rua|travessa|ulica|ul\.|al\.|aleja|plac)"
        rf" (?:{_WORD} ){{0,5}}{_WORD}(?:,? ?\d{{1,4}}\p{{L}}?)?",
        0.6,
    ),
    # 75011 Paris, 10115 Berlin, SW1A 1AA, Springfield, IL 62704
    Pattern("postal code and town", r"\b\d{5}(?:-\d{4})? \p{Lu}[\p{L}'-]{2,30}", 0.5),
    Pattern("state and postal code", r"\b(?:\p{Lu}[\p{L}'-]{1,30},? )?[A-Z]{2} \d{5}(?:-\d{4})?\b", 0.5),
    Pattern("British postal code", r"\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b", 0.5),
)
_HANDLE = (Pattern("handle", r"(?<![\w@.+-])@[\w][\w.-]{1,49}", 0.6),)
_URL = (Pattern("address with a scheme", r"(?i)\b[a-z][a-z0-9+.-]{1,15}://[^\s<>\"]{1,2000}", 0.6),)
"""Presidio's knows a list of top-level domains."""
_NUMBER = (
    # A number of nine digits and more says nothing that a model should learn, and may identify somebody in a way nobody listed.
    Pattern("long number", r"(?<!\d)\d(?:[ ./-]{0,2}\d){8,40}(?!\d)", 0.6),
    Pattern("letters and digits", r"(?i)\b(?=[A-Z\d]{0,30}[A-Z])(?=(?:[A-Z]{0,30}\d){5})[A-Z\d]{8,34}\b", 0.5),
)


def _rule(entity: str, patterns: tuple[Pattern, ...], flags: int = 0) -> PatternRecognizer:
    return PatternRecognizer(
        supported_entity=entity,
        name=f"tapchanger {entity}",
        patterns=list(patterns),
        global_regex_flags=flags or regex.V0,
    )


class _Email(presidio.EmailRecognizer):  # type: ignore[misc]  # Presidio has no types
    """Without asking for a list of top-level domains, which Presidio's would fetch from the network."""

    def validate_result(self, pattern_text: str) -> bool | None:  # noqa: ARG002 - the library's signature
        """Every address of the form counts."""
        return None


class _Phone(presidio.PhoneRecognizer):  # type: ignore[misc]  # Presidio has no types
    """Every number that could be one, also one that nobody has been given; short numbers are no person's."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: object = None) -> list[RecognizerResult]:
        """See Presidio."""
        found: list[RecognizerResult] = super().analyze(text, entities, nlp_artifacts)
        return [hit for hit in found if sum(map(str.isdigit, text[hit.start : hit.end])) >= _SHORTEST_PHONE]


def recognizers(kind: Kind, regions: tuple[str, ...]) -> list[EntityRecognizer]:
    """What finds one kind; of names nothing, see :mod:`tapchanger_serving.capture.proper`."""
    match kind:
        case "email":
            return [_Email()]
        case "phone":
            return [_Phone(supported_regions=regions or REGIONS, leniency=0)]
        case "card":
            return [presidio.CreditCardRecognizer()]
        case "iban":
            return [presidio.IbanRecognizer()]
        case "ip":
            return [presidio.IpRecognizer(), presidio.MacAddressRecognizer()]
        case "url":
            return [presidio.UrlRecognizer(), _rule("URL", _URL)]
        case "nationalId":
            return [made() for made in _NATIONAL]
        case "handle":
            return [_rule("HANDLE", _HANDLE)]
        case "number":
            return [_rule("NUMBER", _NUMBER), presidio.CryptoRecognizer(), presidio.UuidRecognizer()]
        case "address":
            return [_rule("ADDRESS", _ADDRESSES)]
        case "name":
            return []
