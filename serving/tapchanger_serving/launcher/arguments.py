"""tritonserver's arguments: `--trace-config` becomes the environment of our own tracer, all else is passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tapchanger_serving.contract import names
from tapchanger_serving.contract.capture import ENV_SAMPLING, Sampling

_OPTION = "--trace-config"
_EXPORT_SECONDS = 2


@dataclass(frozen=True)
class Launch:
    """How tritonserver is started."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


def translate(given: Sequence[str], environ: Mapping[str, str] | None = None) -> Launch:
    """Takes `--trace-config` in both of its forms (`--trace-config=X`, `--trace-config X`) out of the arguments.

    Its `rate`, `opentelemetry,url`, `opentelemetry,resource` and `opentelemetry,bsp_schedule_delay` become the variables
    that OpenTelemetry's SDKs define; without an `url` nothing is traced. Triton hands the headers that a span needs to
    its models, and with capture, as `environ` says, the one that tells of consent. It matches names in any case.
    """
    passed: list[str] = []
    traced: list[str] = []
    words = iter(given)
    for word in words:
        name, separator, value = word.partition("=")
        if name == _OPTION:
            traced.append(value if separator else next(words, ""))
        else:
            passed.append(word)
    environment = _environment(traced)
    sampling = (environ or {}).get(ENV_SAMPLING)
    if environment or sampling:
        headers = [names.TRACEPARENT_HEADER, names.REQUEST_START_HEADER, names.MIRROR_HEADER]
        if sampling:
            headers.append(Sampling.model_validate_json(sampling).consent.header)
        pattern = f"({'|'.join(headers)})"
        passed += [f"--grpc-header-forward-pattern={pattern}", f"--http-header-forward-pattern={pattern}"]
    return Launch(tuple(passed), environment)


def _environment(traced: Sequence[str]) -> dict[str, str]:
    settings = dict[str, str]()
    resource = list[str]()
    for entry in traced:
        name, _, value = entry.removeprefix("opentelemetry,").partition("=")
        if name == "resource":
            key, _, text = value.partition("=")
            resource.append(f"{quote(key)}={quote(text)}")
        else:
            settings[name] = value
    if not settings.get("url"):
        return {}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": settings["url"],
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": str(_EXPORT_SECONDS),
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(resource),
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(1 / max(1, int(settings.get("rate", "1000")))),
        "OTEL_BSP_SCHEDULE_DELAY": settings.get("bsp_schedule_delay", "5000"),
    }
