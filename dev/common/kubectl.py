"""Asks and changes a cluster through kubectl, as a person would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.common.shell import CommandError, run

Object = dict[str, Any]


@dataclass(frozen=True)
class Kubectl:
    """One cluster. `kubeconfig` and `context` None: the person's own."""

    binary: Path
    kubeconfig: Path | None = None
    context: str | None = None

    def command(self, *words: str) -> list[str]:
        """The whole command line for `words`."""
        where = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        which = [f"--context={self.context}"] if self.context else []
        return [str(self.binary), *where, *which, *words]

    def __call__(self, *words: str, text: str | None = None, seconds: float = 60.0) -> str:
        """Standard output of `kubectl WORDS`. Raises CommandError with what it said."""
        return run(*self.command(*words), text=text, seconds=seconds)

    def attempt(self, *words: str) -> str:
        """What `kubectl WORDS` says when it is refused. Raises AssertionError where it is not."""
        try:
            said = self(*words)
        except CommandError as problem:
            return problem.said
        raise AssertionError(f"`kubectl {' '.join(words)}` was not refused: {said}")

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none."""
        text = self("get", kind, name, *_in(namespace), "--ignore-not-found", "-o", "json")
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def items(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        """All objects of `kind` (or of several, with commas) in `namespace`; None means everywhere."""
        where = _in(namespace) if namespace else ["--all-namespaces"]
        found: list[Object] = json.loads(self("get", kind, *where, "-o", "json", *_selected(selector)))["items"]
        return found

    def apply(self, *manifests: Mapping[str, Any]) -> str:
        """`kubectl apply` of manifests, as a person's files."""
        return self("apply", "-f", "-", text=_documents(manifests))

    def diff(self, *manifests: Mapping[str, Any]) -> str:
        """What `kubectl diff` shows; empty where the cluster holds just what the manifests say."""
        return run(*self.command("diff", "-f", "-"), text=_documents(manifests), accepted=(0, 1))

    def patch(self, kind: str, name: str, namespace: str, change: Mapping[str, Any]) -> None:
        """A merge patch."""
        self("patch", kind, name, *_in(namespace), "--type=merge", "--patch", json.dumps(change))

    def delete(
        self, kind: str, name: str, namespace: str | None = None, *, seconds: float = 120.0, wait: bool = True
    ) -> None:
        """Deletes an object and waits until it is gone, unless told otherwise; one that is not there counts as gone."""
        flags = ["--ignore-not-found", f"--wait={str(wait).lower()}", f"--timeout={seconds:.0f}s"]
        self("delete", kind, name, *_in(namespace), *flags, seconds=seconds + 10)

    def changes(self, kind: str, name: str, namespace: str) -> tuple[subprocess.Popen[str], Iterator[Object]]:
        """The object as it is and after each change, until the process is ended."""
        flags = ["--watch", "--output=json", f"--field-selector=metadata.name={name}"]
        process = subprocess.Popen(
            self.command("get", kind, *_in(namespace), *flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return process, _decoded(process)


def listed_kinds(kubectl: Kubectl) -> list[str]:
    """Every namespaced kind that can be listed, as `plural.group`; events and metrics are left out."""
    names = kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    return [name for name in names if not name.startswith("events") and not name.endswith("metrics.k8s.io")]


def condition(body: Mapping[str, Any], kind: str) -> Object:
    """One condition of an object's status; an empty one where there is none."""
    return next((c for c in body.get("status", {}).get("conditions", []) if c["type"] == kind), {})


def picture(kubectl: Kubectl, namespace: str, system: str = "tapchanger-system") -> str:
    """What a person would look at: deployments, builds, pods and events of `namespace`, and the operator's last words."""
    asked: Sequence[Sequence[str]] = (
        ("get", "tdep,eb,jobs,pods", "-n", namespace, "-o", "wide"),
        ("describe", "tdep", "-n", namespace),
        ("get", "events", "-n", namespace, "--sort-by=.lastTimestamp"),
        ("logs", "-n", system, "-l", "app.kubernetes.io/component=operator", "--tail=40", "--prefix"),
    )
    parts = []
    for words in asked:
        try:
            said = kubectl(*words)
        except CommandError as problem:
            said = str(problem)
        parts.append(f"$ kubectl {' '.join(words)}\n{said.strip()[-6000:]}")
    return "\n\n".join(parts)


def _decoded(process: subprocess.Popen[str]) -> Iterator[Object]:
    decoder, buffer = json.JSONDecoder(), ""
    if process.stdout is None:
        raise ValueError("the process has no standard output to read")
    for line in process.stdout:
        buffer += line
        # kubectl indents; only a line of one closing brace ends an object.
        if line.rstrip("\n") != "}":
            continue
        body, end = decoder.raw_decode(buffer)
        buffer = buffer[end:].lstrip()
        yield body


def _documents(manifests: Sequence[Mapping[str, Any]]) -> str:
    return "\n---\n".join(json.dumps(manifest) for manifest in manifests)


def _in(namespace: str | None) -> list[str]:
    return ["--namespace", namespace] if namespace else []


def _selected(selector: str) -> list[str]:
    return ["--selector", selector] if selector else []
