"""A version is complete with its manifest and refused when a byte differs from what was written."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkit.artifact.version import (
    ArtifactError,
    DigestMismatchError,
    VersionNotFoundError,
    fetch_version,
    read_manifest,
    write_version,
)
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.errors import StoreError
from modelkit.store.store import Store

PATH = "models/default/cancer/1-abc"
FILES = {"model.onnx": b"\x00\x01model", "signature.json": b"{}"}
METADATA = {"run": {"number": 1}, "created": "2026-01-01"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{root}"), {})


def _ref(digest: str) -> VersionRef:
    return VersionRef(number=1, path=PATH, digest=digest)


def test_a_written_version_is_fetched_whole(store: Store, tmp_path: Path) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    folder = fetch_version(store, _ref(digest), tmp_path / "target")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES


def test_the_digest_is_that_of_the_manifest(store: Store) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    data = store.read(f"{PATH}/manifest.json")
    assert digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    entry = json.loads(data)["files"]["model.onnx"]
    assert entry == {"sha256": hashlib.sha256(FILES["model.onnx"]).hexdigest(), "size": 7}


def test_the_manifest_is_written_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write, write_new = Store.write, Store.write_new
    monkeypatch.setattr(Store, "write", lambda s, p, d: (written.append(p), write(s, p, d))[1])
    monkeypatch.setattr(Store, "write_new", lambda s, p, d: (written.append(p), write_new(s, p, d))[1])
    write_version(store, PATH, FILES, METADATA)
    assert written[-1] == f"{PATH}/manifest.json"
    assert len(written) == 3


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_a_crash_before_the_manifest_leaves_no_version_and_the_retry_makes_one(
    store: Store, tmp_path: Path, survivors: int
) -> None:
    for name in sorted(FILES)[:survivors]:
        store.write(f"{PATH}/{name}", b"of the attempt that died")
    assert read_manifest(store, PATH) is None
    with pytest.raises(VersionNotFoundError, match=r"manifest\.json is missing"):
        fetch_version(store, _ref("sha256:" + "0" * 64), tmp_path / "target")
    digest = write_version(store, PATH, FILES, METADATA)
    fetch_version(store, _ref(digest), tmp_path / "target")


def test_a_retry_after_the_manifest_gets_the_first_digest(store: Store) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    later = {**METADATA, "created": "2026-01-02"}
    assert write_version(store, PATH, {**FILES, "model.onnx": b"other"}, later) == digest
    assert store.read(f"{PATH}/model.onnx") == FILES["model.onnx"]


def test_another_run_does_not_overwrite_a_version(store: Store) -> None:
    write_version(store, PATH, FILES, METADATA)
    with pytest.raises(ArtifactError, match="version of another run"):
        write_version(store, PATH, FILES, {"run": {"number": 2}})


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("position", [0, -1])
def test_a_flipped_byte_is_refused(store: Store, root: Path, tmp_path: Path, name: str, position: int) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    file = root / PATH / name
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    with pytest.raises(DigestMismatchError, match=f"the file {name}"):
        fetch_version(store, _ref(digest), tmp_path / "target")
    assert not (tmp_path / "target" / name).exists()


@pytest.mark.parametrize("change", [lambda d: d + b"x", lambda d: d[:-1]], ids=["longer", "shorter"])
def test_a_file_of_another_length_is_refused(
    store: Store, root: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    file = root / PATH / "model.onnx"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DigestMismatchError, match="expected 7"):
        fetch_version(store, _ref(digest), tmp_path / "target")


def test_a_changed_manifest_is_refused(store: Store, root: Path, tmp_path: Path) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    manifest = root / PATH / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"2026", b"2027"))
    with pytest.raises(DigestMismatchError, match="manifest"):
        fetch_version(store, _ref(digest), tmp_path / "target")


def test_another_digest_than_the_expected_is_refused(store: Store, tmp_path: Path) -> None:
    write_version(store, PATH, FILES, METADATA)
    with pytest.raises(DigestMismatchError, match="expected sha256:0000"):
        fetch_version(store, _ref("sha256:" + "0" * 64), tmp_path / "target")


def test_a_missing_file_is_refused(store: Store, root: Path, tmp_path: Path) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    (root / PATH / "signature.json").unlink()
    with pytest.raises(VersionNotFoundError, match=r"signature\.json"):
        fetch_version(store, _ref(digest), tmp_path / "target")


def test_only_listed_files_are_fetched(store: Store, tmp_path: Path) -> None:
    digest = write_version(store, PATH, FILES, METADATA)
    store.write(f"{PATH}/model.pkl", b"unlisted")
    folder = fetch_version(store, _ref(digest), tmp_path / "target")
    assert {file.name for file in folder.iterdir()} == set(FILES)


BAD_NAMES = ["../escape", "/etc/passwd", "a/b", "..", ".hidden", "", "manifest.json", "a\\b", "a\0b"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leaves_the_folder_is_not_written(store: Store, name: str) -> None:
    with pytest.raises((ArtifactError, StoreError)):
        write_version(store, PATH, {name: b""}, METADATA)
    assert list(store.list()) == []


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leaves_the_folder_is_not_fetched(store: Store, tmp_path: Path, name: str) -> None:
    entry = {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}
    digest = _write_manifest(store, {"format": 1, "files": {name: entry}, "metadata": {}})
    with pytest.raises(ArtifactError):
        fetch_version(store, _ref(digest), tmp_path / "a" / "target")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "plain",
    [
        [],
        {},
        {"format": 2, "files": {}, "metadata": {}},
        {"format": 1, "files": [], "metadata": {}},
        {"format": 1, "files": {"a": {}}, "metadata": {}},
        {"format": 1, "files": {"a": {"sha256": "x", "size": 1}}, "metadata": {}},
        {"format": 1, "files": {"a": {"sha256": "0" * 64, "size": -1}}, "metadata": {}},
        {"format": 1, "files": {}},
    ],
)
def test_what_is_no_manifest_is_refused(store: Store, tmp_path: Path, plain: Any) -> None:
    digest = _write_manifest(store, plain)
    with pytest.raises(ArtifactError, match="isn't a manifest"):
        fetch_version(store, _ref(digest), tmp_path / "target")


def _write_manifest(store: Store, plain: Any) -> str:
    data = json.dumps(plain).encode()
    store.write(f"{PATH}/manifest.json", data)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
