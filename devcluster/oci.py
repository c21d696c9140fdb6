"""Image archives in the OCI layout, written with nothing but the standard library."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_LAYOUT = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
_NAME_ANNOTATION = "io.containerd.image.name"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_program_image(archive: Path, program: Path, reference: str) -> None:
    """An image that holds a single static program, for anybody's user to run."""
    layer = _build_layer(program)
    config = _encode(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created_by": "devcluster"}],
        }
    )
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _describe(config, _CONFIG),
            "layers": [_describe(layer, _LAYER)],
        }
    )
    index = {"schemaVersion": 2, "manifests": [describe_image(manifest, reference)]}
    with archive.open("wb") as target:
        write_archive(target, index, {digest(blob): blob for blob in (layer, config, manifest)})


def write_archive(target: IO[bytes], index: Mapping[str, Any], blobs: Mapping[str, bytes | Path]) -> None:
    """Stream an OCI layout as a tar: its index and its blobs by digest, from memory or from files."""
    with tarfile.open(fileobj=target, mode="w|", bufsize=1 << 20) as tar:
        _add(tar, "oci-layout", _LAYOUT)
        for name, blob in blobs.items():
            path = f"blobs/{name.replace(':', '/')}"
            if isinstance(blob, Path):
                tar.add(blob, arcname=path, recursive=False)
            else:
                _add(tar, path, blob)
        _add(tar, "index.json", _encode(index))


def describe_image(manifest: bytes, reference: str) -> dict[str, Any]:
    """An image's entry in an index, under the whole name that containerd is to know it by."""
    return {**_describe(manifest, _MANIFEST), "annotations": {_NAME_ANNOTATION: reference}}


def digest(blob: bytes) -> str:
    """A blob's name in the layout."""
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _build_layer(program: Path) -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        entry = tarfile.TarInfo(program.name)
        entry.size = program.stat().st_size
        entry.mode = 0o755
        with program.open("rb") as source:
            tar.addfile(entry, source)
    return layer.getvalue()


def _describe(blob: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _encode(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    tar.addfile(entry, io.BytesIO(content))
