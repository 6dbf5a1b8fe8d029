"""What holds a namespace's artifacts: its claim, or its part of a store elsewhere, and what opens that."""

from __future__ import annotations

from urllib.parse import urlsplit

from tapchanger_operator import names
from tapchanger_operator.names import Owner
from tapchanger_operator.plan.common import Manifest, mount
from tapchanger_operator.settings import Store
from tapchanger_serving.contract import names as contract

VOLUME = Store()
_CREDENTIALS = "store-credentials"
_PORTS = {"http": 80, "https": 443}


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


def location(store: Store, namespace: str) -> str:
    """The namespace's part of a store elsewhere: what one namespace collects is never another's. Empty for the volume."""
    return f"{store.uri}/{namespace}" if store.uri else ""


def environment(store: Store, namespace: str) -> list[Manifest]:
    """Variables of a container that writes or reads a store elsewhere."""
    values = {
        contract.ENV_STORE_URI: location(store, namespace),
        contract.ENV_STORE_ENDPOINT: store.endpoint,
        contract.ENV_STORE_CREDENTIALS: store.secret,
    }
    return [{"name": name, "value": value} for name, value in values.items() if value and store.uri]


def secret_mounts(store: Store) -> list[Manifest]:
    """The mount of the Secret that opens a store elsewhere."""
    return [mount(_CREDENTIALS, contract.STORE_CREDENTIALS_DIR, read_only=True)] if store.uri and store.secret else []


def secret_volumes(store: Store) -> list[Manifest]:
    """The volume behind :func:`secret_mounts`. A missing Secret gives an empty folder, of which the step says what to do."""
    if not (store.uri and store.secret):
        return []
    return [secret_volume(_CREDENTIALS, store.secret)]


def secret_volume(name: str, secret: str) -> Manifest:
    """A Secret that need not exist: where it is missing a pod would wait for it without a word."""
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440, "optional": True}}


def ports(store: Store) -> list[int]:
    """TCP ports at which a store elsewhere answers; a registry's logins and blobs may be elsewhere again, by HTTPS."""
    if not store.uri:
        return []
    if store.uri.startswith("oci://"):
        return sorted({443, urlsplit(store.uri).port or 443})
    endpoint = urlsplit(store.endpoint)
    return [endpoint.port or _PORTS.get(endpoint.scheme, 443)]
