"""``spec.retraining`` and ``status.retraining``: when a model is trained anew, by what, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from tapchanger_operator.api.base import Duration, FreeForm, Model, SecretName, StatusModel, rules
from tapchanger_serving.contract.retraining import DriftReport, RunData, Trigger

LONGEST_JOB: Final = "6h"
_DURATION_RULE: Final = ("!self.matches('^[0-9.]+ms$')", "write seconds, minutes, hours or days, for example 24h")
_CRON: Final = r"^(@(hourly|daily|midnight|weekly|monthly|yearly|annually)|[^ @]+( +[^ ]+){4})$"
_CRON_HELP: Final = (
    "write a schedule of five fields (minute, hour, day of the month, month, day of the week), for example 0 3 * * 0, "
    "or @daily; a time zone goes into timeZone"
)
_URL: Final = r"^(https://[^ /?#@]+|http://[a-z0-9-]+(\\.[a-z0-9-]+)?\\.svc(\\.[a-z0-9.-]+)?(:[0-9]+)?)([/?][^ #]*)?$"
_URL_HELP: Final = (
    "write https://host/path, or http://SERVICE.NAMESPACE.svc:PORT/path inside the cluster; a password goes into the Secret's "
    "key authorization"
)
_HOST_FIELDS: Final = ("hostNetwork", "hostPID", "hostIPC")

SomeTime = Annotated[Duration, Field(json_schema_extra=rules(_DURATION_RULE))]


class TemplateMetadata(Model):
    """Labels and annotations; `tapchanger.dev/` labels are the operator's own."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RunTemplate(Model):
    """A pod's template, as a Kubernetes Job has it."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: FreeForm = Field(description="A pod's spec, with containers; `kubectl explain pod.spec` lists its fields.")

    @field_validator("spec")
    @classmethod
    def _pods_end_and_keep_to_themselves(cls, value: dict[str, Any]) -> dict[str, Any]:
        """The API server checks all else. The operator makes the pod, so that it must not get what its author could not."""
        containers = value.get("containers")
        if not isinstance(containers, list) or not containers:
            raise ValueError("write the containers that train, as in a pod: containers: [{name: train, image: …}]")
        everything = [*containers, *(value.get("initContainers") or [])]
        if not all(isinstance(one, dict) for one in everything):
            raise ValueError("each of containers is an object: {name: train, image: …}")
        if value.get("restartPolicy", "Never") not in ("Never", "OnFailure"):
            raise ValueError("restartPolicy: write Never or OnFailure, since a run has to end")
        host = [field for field in _HOST_FIELDS if value.get(field)]
        if host:
            raise ValueError(f"{', '.join(host)}: a run gets nothing of its node; leave it out")
        for one in everything:
            security = one.get("securityContext")
            if isinstance(security, dict) and security.get("privileged"):
                raise ValueError(
                    f"container {one.get('name')}: privileged: a run gets no rights on its node; leave it out"
                )
        return value


class RetrainingJob(Model):
    """A Job of the user's own, in the deployment's namespace."""

    metadata: TemplateMetadata = Field(
        default=TemplateMetadata(), description="Labels and annotations of the Job itself, such as the name of a queue."
    )
    template: RunTemplate
    backoff_limit: int = Field(default=0, ge=0, le=10, description="How often one run's pod is tried again.")


class RetrainingWebhook(Model):
    """A service that trains elsewhere: it is told of a run, and puts the result at `model.uri`."""

    url: str = Field(
        min_length=1,
        max_length=1024,
        description="Where the run is posted to, as JSON (docs/retraining.md).",
        json_schema_extra=rules((f"self.matches('{_URL}')", _URL_HELP)),
    )
    secret_name: SecretName | None = Field(
        default=None,
        description="A Secret of the namespace with any of signing-key (calls are signed by it, as Standard Webhooks does), "
        "authorization (the header's value) and ca.crt. It is mounted where the call is made and nowhere else.",
    )
    timeout: SomeTime = Field(default="30s", description="How long one call may take; it is repeated a few times.")


class RetrainingBackoff(Model):
    """How long to wait after runs that failed: `initial` after the first, twice as long after each further one."""

    initial: SomeTime = "10m"
    max: SomeTime = "24h"


class RetrainingSpec(Model):
    """What trains the model anew, and when. Drift starts a run with `drift.action: Retrain`; a person can at any time."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.job) != has(self.webhook)",
                "write either job: {template: {spec: {containers: […]}}} or webhook: {url: …}, one of them",
            ),
            ("!has(self.timeZone) || has(self.schedule)", "timeZone belongs to a schedule: write schedule too"),
        )
    )

    schedule: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="When a run is due, as in a CronJob: 0 3 * * 0. By default never by time.",
        json_schema_extra=rules((f"self.matches('{_CRON}')", _CRON_HELP)),
    )
    time_zone: str | None = Field(
        default=None,
        max_length=64,
        description="The schedule's time zone, such as Europe/Berlin. By default UTC.",
        json_schema_extra=rules(
            ("self.matches('^[A-Za-z][A-Za-z0-9_+/-]*$')", "write a name of the time zone database: Europe/Berlin, UTC")
        ),
    )
    starting_deadline: SomeTime = Field(
        default="6h",
        description="How late a scheduled run may start where something held it up; after that it is left out.",
    )
    min_interval: SomeTime = Field(
        default="24h",
        description="The least time from one run's start to that of the next, unless a person orders one.",
    )
    timeout: SomeTime = Field(
        default=LONGEST_JOB, description="How long a run may take until its new content is at model.uri."
    )
    backoff: RetrainingBackoff = RetrainingBackoff()
    job: RetrainingJob | None = Field(default=None, description="What trains, in this namespace.")
    webhook: RetrainingWebhook | None = Field(default=None, description="Or what is told to train elsewhere.")

    @model_validator(mode="after")
    def _one_of_job_and_webhook(self) -> RetrainingSpec:
        """What the rules say at admission, for objects that were stored without it."""
        if (self.job is None) == (self.webhook is None):
            raise ValueError("write either job or webhook, one of them")
        return self


RETRAINING_RULES: Final = rules(
    (
        "self.drift.action != 'Retrain' || has(self.retraining)",
        "drift.action Retrain needs something that trains: write retraining: {job: {template: {spec: …}}}",
    ),
    (
        "!has(self.retraining) || !self.model.uri.contains('@sha256:')",
        "retraining puts its result at model.uri, whose content is pinned by @sha256:…; write an address that may change",
    ),
)

Outcome = Literal["Promoted", "RolledBack", "BuildFailed", "SameContent", "Failed", "Superseded"]
Phase = Literal["Starting", "Running", "Waiting", "Polling", "RollingOut", "Ended"]


class RunFrom(StatusModel):
    """What a run was given. `drift_digest` is the SHA-256 of its drift.json."""

    model: str = Field(description="Digest of the model that served.")
    uri: str = Field(description="The address that the new content has to come to.")
    content: str = Field(description="Digest of what was there before.")
    revision: str
    build: str
    reference: str | None = None
    artifact: str | None = None
    capture: str | None = None
    drift: DriftReport | None = Field(default=None, description="The report, while the run is under way.")
    drift_digest: str | None = None


class RunStatus(StatusModel):
    """One run: data → run → digest → build → revision.

    `phase`: Starting (its Job is being made), Running, Waiting (the webhook was told; content or a word is waited for), Polling
    (the address is asked), RollingOut (its content is built and tested like any other), Ended.
    """

    name: str
    trigger: Trigger
    by: str = Field(default="", description="Who ordered it.")
    why: str = ""
    started: str
    ended: str | None = Field(default=None, description="When training ended.")
    closed: str | None = Field(default=None, description="When its outcome was known.")
    phase: Phase
    inputs: RunFrom
    asked: str | None = Field(default=None, description="Mark of the question to the address.")
    figures: dict[str, float] = Field(default={}, description="What the run said of itself.")
    data: list[RunData] = Field(default=[], description="The data that it says it used.")
    note: str = Field(default="", description="Its own words.")
    digest: str | None = Field(default=None, description="The content that it left.")
    build: str | None = None
    revision: str | None = None
    outcome: Outcome | None = None
    message: str = ""


class DriftAnswered(StatusModel):
    """A drift that a run has been the answer to. `calm_since`: since when texts are like the reference again."""

    run: str
    feature: str
    calm_since: str | None = None


class RetrainingAnswer(StatusModel):
    """What came of an order: `value` as it was given, by whom, and the answer in words."""

    order: Literal["retrain", "retrained"]
    value: str
    by: str = ""
    at: str
    done: bool
    message: str


class RetrainingStatus(StatusModel):
    """The run under way, the last ones, and when there may be another."""

    message: str = ""
    waits: str | None = Field(default=None, description="Why a run that is wanted has not started.")
    run: RunStatus | None = None
    runs: list[RunStatus] = Field(default=[], description="The last 10 that ended; the newest comes last.")
    failures: int = Field(default=0, description="Runs that failed one after the other.")
    not_before: str | None = Field(default=None, description="No run is started before, unless a person orders one.")
    schedule: str = Field(default="", description="The schedule that the times below belong to.")
    scheduled: str | None = Field(default=None, description="The last time of the schedule that was dealt with.")
    next: str | None = Field(default=None, description="The next time of the schedule.")
    answered: DriftAnswered | None = None
    answers: list[RetrainingAnswer] = []
