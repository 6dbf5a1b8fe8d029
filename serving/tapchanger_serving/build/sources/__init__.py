"""Where checkpoints and data come from: one module per kind of source, one function that reads a URI.

| URI | what it is | what `@sha256:<hex>` at its end pins |
|---|---|---|
| `pvc://CLAIM/path` | a folder or file on a PersistentVolumeClaim | the tree digest (a file: its own digest) |
| `file:///path` | a folder or file in the build's container | the same |
| `https://host/x.tar.gz` | an archive, or a data file | the archive's or file's digest; required |
| `hf://org/name@revision` | a repository of the Hugging Face Hub | the tree digest |
| `s3://bucket/prefix`, `gs://…`, `az://container/prefix` | objects of a store | the tree digest (a file: its own digest) |
| `oci://registry/repository:tag` | an artifact or image of a registry | the manifest's digest |
"""

from tapchanger_serving.build.sources.base import Source
from tapchanger_serving.build.sources.uri import source_of

__all__ = ["Source", "source_of"]
