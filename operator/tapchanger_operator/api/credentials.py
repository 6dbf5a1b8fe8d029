"""What opens the places that models and data come from."""

from __future__ import annotations

from pydantic import Field

from tapchanger_operator.api.base import Model, SecretName


class Credentials(Model):
    """A Secret of the deployment's namespace. It is mounted where the model and the data are fetched, and nowhere else."""

    secret_name: SecretName = Field(
        description="A Secret with keys such as AWS_ACCESS_KEY_ID, HF_TOKEN or .dockerconfigjson (docs/builds.md lists them).",
    )
