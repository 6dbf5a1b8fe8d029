"""An API server in memory with the calls of `tapchanger_operator.kube.Kube`, and faults on demand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapchanger_operator import names
from tapchanger_operator.api import reasons
from tapchanger_operator.api.base import timestamp
from tapchanger_operator.errors import Transient, UserError
from tapchanger_operator.names import Ref

Object = dict[str, Any]

_WITH_GENERATION = {
    "Deployment", "Job", "EngineBuild", "TransformerDeployment", "PodDisruptionBudget", "NetworkPolicy",
    "HTTPRoute", "GRPCRoute",
}  # fmt: skip


class Killed(BaseException):
    """The operator's process ends here."""


@dataclass(frozen=True)
class Call:
    """One call as it was made."""

    verb: str
    ref: Ref
    body: Any = None


@dataclass
class FakeKube:
    """Objects by reference; they are replaced, never changed in place, so that what was read stays as it was.

    `fault` is asked before each call, with its number (from 1) and the call; it may raise.
    """

    clock: Callable[[], float] = lambda: 0.0
    objects: dict[Ref, Object] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    fault: Callable[[int, Call], None] = lambda number, call: None
    unknown: set[str] = field(default_factory=set)
    """Kinds that this cluster does not have."""
    _annotated: dict[tuple[Ref, str], set[str]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # What the operator calls.

    def get(self, ref: Ref) -> Object | None:
        self._called("get", ref)
        return self.objects.get(ref)

    def items(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        self._called("list", Ref(kind, namespace or "", selector))
        wanted = dict(part.split("=", 1) for part in selector.split(",") if part)
        return [
            item
            for ref, item in self.objects.items()
            if ref.kind == kind
            and namespace in (None, ref.namespace)
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    def items_if_known(self, kind: str, namespace: str, selector: str = "") -> list[Object] | None:
        return None if kind in self.unknown else self.items(kind, namespace, selector)

    def apply(self, manifest: Mapping[str, Any], manager: str = names.MANAGER) -> Object:
        ref = Ref.of(manifest)
        if ref.kind in self.unknown:
            raise Transient("NotFound", "404 page not found")
        self._called("apply", ref, manifest)
        live = self.objects.get(ref)
        if live and ref.kind == "EngineBuild" and live["spec"] != manifest["spec"]:
            raise UserError(reasons.REFUSED, "an EngineBuild never changes")
        self._drop_annotations(ref, manager, manifest["metadata"].get("annotations", {}))
        return self.put(manifest)

    def _drop_annotations(self, ref: Ref, manager: str, wanted: Mapping[str, str]) -> None:
        """What a manager applied before and doesn't any more goes."""
        live, gone = self.objects.get(ref), self._annotated.get((ref, manager), set()) - set(wanted)
        self._annotated[ref, manager] = set(wanted)
        if live and gone:
            kept = {key: value for key, value in live["metadata"].get("annotations", {}).items() if key not in gone}
            self.objects[ref] = {**live, "metadata": {**live["metadata"], "annotations": kept}}

    def apply_status(self, ref: Ref, status: Mapping[str, Any]) -> Object:
        self._called("status", ref, status)
        live = self.objects.get(ref)
        if live is None:
            return {}
        return self._store({**live, "status": dict(status)})

    def annotate(self, ref: Ref, annotations: Mapping[str, str]) -> None:
        self._called("annotate", ref, annotations)
        live = self.objects.get(ref)
        if live:
            merged = {**live["metadata"].get("annotations", {}), **annotations}
            self._store({**live, "metadata": {**live["metadata"], "annotations": merged}})

    def patch(self, ref: Ref, operations: Sequence[Object]) -> None:
        """Knows what the operator uses: test and remove of one owner reference."""
        self._called("patch", ref, operations)
        live = self.objects.get(ref)
        if live is None:
            return
        test, remove = operations
        assert (test["op"], remove["op"]) == ("test", "remove")
        index = int(remove["path"].rsplit("/", 1)[1])
        owners = list(live["metadata"]["ownerReferences"])
        assert test["path"] == f"{remove['path']}/uid"
        if owners[index]["uid"] != test["value"]:
            raise UserError(reasons.REFUSED, "the test failed")
        del owners[index]
        self._store({**live, "metadata": {**live["metadata"], "ownerReferences": owners}})

    def delete(self, ref: Ref, uid: str) -> None:
        self._called("delete", ref, uid)
        if ref in self.objects and self.objects[ref]["metadata"]["uid"] == uid:
            self.remove(ref)

    def create(self, manifest: Mapping[str, Any]) -> Object | None:
        ref = Ref.of(manifest)
        self._called("create", ref, manifest)
        return None if ref in self.objects else self.put(manifest)

    # What tests and the rest of the cluster do.

    def put(self, manifest: Mapping[str, Any]) -> Object:
        """Stores an object as server-side apply does; a change of its spec counts its generation up."""
        fresh: Object = json.loads(json.dumps(manifest))
        ref = Ref.of(fresh)
        live = self.objects.get(ref)
        if live is None:
            meta = {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": timestamp(self.clock())}
            counted = {"generation": 1} if ref.kind in _WITH_GENERATION else {}
            return self._store({**fresh, "metadata": {**meta, **counted, **fresh["metadata"]}})
        merged = {**live, **fresh, "metadata": _merged_metadata(live["metadata"], fresh["metadata"])}
        if merged == live:
            return live
        if merged.get("spec") != live.get("spec") and "generation" in live["metadata"]:
            merged["metadata"]["generation"] += 1
        return self._store(merged)

    def remove(self, ref: Ref) -> None:
        """Deletes an object and, as the garbage collector does, all that it alone owned."""
        uid = self.objects.pop(ref)["metadata"]["uid"]
        for other, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences", [])
            left = [owner for owner in owners if owner["uid"] != uid]
            if len(left) == len(owners):
                continue
            if left:
                self._store({**item, "metadata": {**item["metadata"], "ownerReferences": left}})
            elif other in self.objects:
                self.remove(other)

    def of_kind(self, kind: str) -> dict[str, Object]:
        """Objects of one kind by name."""
        return {ref.name: item for ref, item in self.objects.items() if ref.kind == kind}

    def _called(self, verb: str, ref: Ref, body: Any = None) -> None:
        call = Call(verb, ref, body)
        self.fault(len(self.calls) + 1, call)
        self.calls.append(call)

    def _store(self, item: Object) -> Object:
        stored = {**item, "metadata": {**item["metadata"], "resourceVersion": str(next(self._numbers))}}
        self.objects[Ref.of(stored)] = stored
        return stored


def _merged_metadata(live: Mapping[str, Any], fresh: Mapping[str, Any]) -> Object:
    owners = {owner["uid"]: owner for owner in [*live.get("ownerReferences", []), *fresh.get("ownerReferences", [])]}
    merged = {**live, **fresh}
    for part in ("labels", "annotations"):
        if part in live or part in fresh:
            merged[part] = {**live.get(part, {}), **fresh.get(part, {})}
    return {**merged, **({"ownerReferences": list(owners.values())} if owners else {})}
