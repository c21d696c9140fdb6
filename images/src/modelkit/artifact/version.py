"""A model version in the store: files, and a manifest that is written last and names the digest of each.

A version is complete once its manifest is there, and identified by the manifest's own digest. A reader refuses
anything else: no manifest, another digest, a file of another length or content, a name that leaves the folder.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkit.contract.config import VersionRef
from modelkit.contract.files import MANIFEST, MODEL_ONNX, MODEL_SKOPS, signature_file
from modelkit.errors import ModelKitError, StoreObjectExistsError, StoreObjectNotFoundError
from modelkit.store.store import Store

RUN = "run"
"""Key of the metadata that says which run made the version: a retry of that run, and no other, may meet it."""
_FORMAT = 1
_MAX_MANIFEST_BYTES = 1_048_576
MAX_FILE_BYTES = 4 * 1024**3
"""Of a file that is read whole: more than twice of what ONNX's format can hold."""
MAX_TEXT_BYTES = 128 * 1024**2
"""Of a file that isn't a model: JSON takes many times its size in memory."""
_MODELS = (MODEL_ONNX, MODEL_SKOPS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}|model(/[A-Za-z0-9_][A-Za-z0-9._=+,@-]{0,127}){1,8}")
"""No part begins with a dot, so that none leaves the folder. Other frameworks' files are in folders below `model`."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ArtifactError(ModelKitError):
    """A version can't be written, or what is stored isn't a version."""


class VersionNotFoundError(ArtifactError):
    """There is no complete version at the path."""


class DigestMismatchError(ArtifactError):
    """What is stored isn't what was written: a file or the manifest has another digest."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest says of one file."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parsed manifest.json and the digest of its bytes."""

    digest: str
    files: Mapping[str, FileEntry]
    metadata: Mapping[str, Any]


def write_version(
    store: Store,
    path: str,
    files: Mapping[str, bytes | Path],
    metadata: Mapping[str, Any],
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """Write every file, then the manifest, to the folder `path`; returns the version's digest `sha256:<hex>`.

    A file is given by its bytes, or by the path that it is read from when its turn comes.
    `metadata` is JSON; its key `run` identifies the run. When a complete version of the same run is there already
    (a retried Job whose first pod died after the manifest) its digest is returned and nothing is written; a
    version of another run raises ArtifactError. Without `run` the whole metadata must be equal. Files of an
    attempt that didn't get as far as its manifest are replaced. `sign` makes the signature of the manifest's bytes,
    which is stored beside it, before it. Raises StoreError when the store fails.
    """
    for name in files:
        check_name(name)
    if (existing := read_manifest(store, path)) is not None:
        return _same_run(existing, metadata, path)
    entries = {name: _write_file(store, f"{path}/{name}", files[name]) for name in sorted(files)}
    data = _dump({"format": _FORMAT, "files": entries, "metadata": metadata})
    if sign is not None:
        store.write(f"{path}/{signature_file(_digest(data))}", sign(data))
    try:
        store.write_new(f"{path}/{MANIFEST}", data)
    except StoreObjectExistsError:
        # Another pod of the run was quicker, or the store answered a repeated request of our own.
        written = read_manifest(store, path)
        if written is None:
            raise
        return _same_run(written, metadata, path)
    return _digest(data)


def read_manifest(store: Store, path: str, digest: str | None = None) -> Manifest | None:
    """The manifest of the version in the folder `path`; None when there is none.

    Raises DigestMismatchError when `digest` is given and is another than that of the manifest's bytes, and
    ArtifactError when the bytes aren't a manifest.
    """
    data = _read_manifest(store, path, digest)
    return None if data is None else _parse_manifest(data, path)


def read_manifest_bytes(store: Store, ref: VersionRef) -> bytes:
    """The bytes of the version's manifest, unparsed; raises VersionNotFoundError or DigestMismatchError."""
    data = _read_manifest(store, ref.path, ref.digest)
    if data is None:
        raise _not_found(store, ref)
    return data


def read_manifest_of(store: Store, ref: VersionRef) -> Manifest:
    """As `read_manifest` of the version, which must be there: raises VersionNotFoundError too."""
    manifest = read_manifest(store, ref.path, ref.digest)
    if manifest is None:
        raise _not_found(store, ref)
    return manifest


def fetch_version(store: Store, ref: VersionRef, target: Path, *, without: Collection[str] = ()) -> Path:
    """Copy the version, `without` some of its files, to the folder `target` (made when missing) and return it.

    Only files that the manifest lists are fetched, each is checked against its size and sha256 before it is
    written. What other frameworks keep below `model` stays in the store: nothing here reads it. Raises
    VersionNotFoundError, DigestMismatchError, ArtifactError or StoreError.
    """
    manifest = read_manifest_of(store, ref)
    target.mkdir(parents=True, exist_ok=True)
    for name, entry in manifest.files.items():
        if "/" not in name and name not in without:
            (target / name).write_bytes(_read_verified(store, ref.path, name, entry))
    return target


def read_file(store: Store, ref: VersionRef, manifest: Manifest, name: str) -> bytes | None:
    """One file of the version whose manifest was read, checked as by `fetch_version`; None when it has no such file."""
    entry = manifest.files.get(name)
    return None if entry is None else _read_verified(store, ref.path, name, entry)


def _read_manifest(store: Store, path: str, digest: str | None) -> bytes | None:
    try:
        # The size first: a manifest that was replaced by a huge file isn't read into memory.
        size = store.size(f"{path}/{MANIFEST}")
        if size is not None and size > _MAX_MANIFEST_BYTES:
            raise ArtifactError(
                f"the {MANIFEST} of the version {path} has {size} bytes, more than the {_MAX_MANIFEST_BYTES} that a "
                "manifest may have: it was changed after it was written and isn't used"
            )
        data = store.read(f"{path}/{MANIFEST}")
    except StoreObjectNotFoundError:
        return None
    if digest is not None and _digest(data) != digest:
        raise DigestMismatchError(
            f"the manifest of the version {path} has the digest {_digest(data)}; expected {digest}: "
            "it was changed after it was written and isn't used"
        )
    return data


def _not_found(store: Store, ref: VersionRef) -> VersionNotFoundError:
    return VersionNotFoundError(
        f"there is no complete version at {store.uri}/{ref.path}: its {MANIFEST} is missing; "
        "train again or name another version"
    )


def _read_verified(store: Store, path: str, name: str, entry: FileEntry) -> bytes:
    limit = MAX_FILE_BYTES if name in _MODELS else MAX_TEXT_BYTES
    if entry.size > limit:
        raise ArtifactError(f"the file {name} of the version {path} has {entry.size} bytes; at most {limit} are read")
    # The size first: a file that was replaced by a huge one isn't read into memory.
    size = store.size(f"{path}/{name}")
    if size is None:
        raise VersionNotFoundError(f"the file {name} of the version {path} is missing; train again")
    if size == entry.size:
        data = store.read(f"{path}/{name}")
        if len(data) == entry.size and hashlib.sha256(data).hexdigest() == entry.sha256:
            return data
    raise DigestMismatchError(
        f"the file {name} of the version {path} isn't what its manifest says "
        f"({size} bytes, expected {entry.size} with sha256 {entry.sha256}): it was changed after it was written"
    )


def _same_run(existing: Manifest, metadata: Mapping[str, Any], path: str) -> str:
    ours, theirs = metadata.get(RUN, metadata), existing.metadata.get(RUN, existing.metadata)
    if _dump(ours) != _dump(theirs):
        raise ArtifactError(
            f"there is already a version of another run at {path} ({existing.digest}); "
            "a version is never overwritten: give this run another version name"
        )
    return existing.digest


def _write_file(store: Store, path: str, content: bytes | Path) -> dict[str, Any]:
    """Write one file; gives its entry of the manifest."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    store.write(path, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def _parse_manifest(data: bytes, path: str) -> Manifest:
    try:
        if len(data) > _MAX_MANIFEST_BYTES:
            raise ValueError(f"it is longer than {_MAX_MANIFEST_BYTES} bytes")
        plain = json.loads(data)
        if not isinstance(plain, dict) or plain.get("format") != _FORMAT:
            raise ValueError(f"its format isn't {_FORMAT}")
        files = {name: _parse_entry(name, entry) for name, entry in plain["files"].items()}
        return Manifest(_digest(data), files, dict(plain["metadata"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ArtifactError(f"the {MANIFEST} of the version {path} isn't a manifest: {exc}") from exc


def _parse_entry(name: str, entry: Any) -> FileEntry:
    check_name(name)
    sha256, size = entry["sha256"], entry["size"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or type(size) is not int or size < 0:
        raise ValueError(f"the entry of {name} has no sha256 and size")
    return FileEntry(sha256, size)


def check_name(name: str) -> None:
    """Raise ArtifactError for what can't be the name of a version's file."""
    if not _NAME.fullmatch(name) or name == MANIFEST:
        raise ArtifactError(
            f"{name!r} can't be a file of a version; expected letters, digits, '.', '-' and '_', such as model.onnx, "
            "or a path of them below model, such as model/variables/weights-1.bin"
        )


def _dump(plain: Any) -> bytes:
    return json.dumps(plain, indent=1, sort_keys=True, allow_nan=False).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
