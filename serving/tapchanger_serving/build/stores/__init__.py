"""Where finished builds lie: the namespace's volume, an S3 store or an OCI registry, behind one protocol.

| Room | artifact `sha256:<hex>` | report of the build `NAME` |
|---|---|---|
| volume, S3 | `artifacts/sha256-<hex>/`, its manifest written last | `reports/NAME.{html,md}`, then `NAME.json` |
| registry | an OCI artifact, its tag `sha256-<hex>` written last | one with the three files, tagged `NAME` |

The rule of this package: what is visible is whole, and a reader believes nothing but digests.
"""

from tapchanger_serving.build.stores.base import ArtifactStore, Entry
from tapchanger_serving.build.stores.location import opened

__all__ = ["ArtifactStore", "Entry", "opened"]
