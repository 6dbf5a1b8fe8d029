"""The image of the pause program, as an archive that containerd imports: one layer with one file."""

import hashlib
import io
import json
import tarfile

ARCHITECTURES = {"linux-amd64": "amd64", "linux-arm64": "arm64"}


def archive(program: bytes, reference: str, platform: str) -> bytes:
    """A `docker save` archive of `reference` whose entry point is `program` at `/pause`; equal input, equal bytes."""
    layer = _tar({"pause": (program, 0o755)})
    settings = {
        "architecture": ARCHITECTURES[platform],
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    settings_text = json.dumps(settings).encode()
    settings_name = f"{hashlib.sha256(settings_text).hexdigest()}.json"
    manifest = [{"Config": settings_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    return _tar(
        {
            settings_name: (settings_text, 0o644),
            "layer.tar": (layer, 0o644),
            "manifest.json": (json.dumps(manifest).encode(), 0o644),
        }
    )


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
