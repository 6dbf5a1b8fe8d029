"""The claim that holds a namespace's artifacts."""

from __future__ import annotations

from tapchanger_operator import names
from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import Manifest
from tapchanger_operator.settings import Store


def claim(owner: Owner, store: Store) -> Manifest:
    """PersistentVolumeClaim `tapchanger-artifacts`, shared by all deployments of the namespace: each is one of its owners."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.STORE_CLAIM,
            "namespace": owner.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGER, names.LABEL_COMPONENT: "store"},
            "ownerReferences": [owner.reference(controller=False)],
        },
        "spec": {
            "accessModes": [store.access_mode],
            "resources": {"requests": {"storage": store.size}},
            **({"storageClassName": store.storage_class} if store.storage_class else {}),
        },
    }
