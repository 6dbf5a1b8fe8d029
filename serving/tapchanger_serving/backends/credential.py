"""The pod's credential for the observer, on everything that the exporter sends."""

from __future__ import annotations

import os
from pathlib import Path

from requests import PreparedRequest, Session
from requests.auth import AuthBase

from tapchanger_serving.backends import log
from tapchanger_serving.contract import names
from tapchanger_serving.contract.credential import bearer


class Bearer(AuthBase):
    """Puts the token of a file on each request, as it is at that moment: the kubelet renews it.

    A request whose token can't be read goes without one; that is logged once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._told = False

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Changes and returns the request."""
        try:
            request.headers["Authorization"] = bearer(self._file)
        except OSError as error:
            if not self._told:
                log.write("warning", "the token for the observer can't be read; not logged again", error=str(error))
            self._told = True
        return request


def session() -> Session:
    """A session for the exporter; with the credential, where the pod has one."""
    made = Session()
    file = os.environ.get(names.ENV_OBSERVER_TOKEN)
    if file:
        made.auth = Bearer(Path(file))
    return made
