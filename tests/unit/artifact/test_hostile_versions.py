"""A version whose files were changed or forged is refused with a reason."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.artifact.version import fetch_version
from modelkit.contract.config import VersionRef
from modelkit.contract.files import MANIFEST, MODEL_ONNX, SAMPLES, SIGNATURE
from modelkit.errors import ModelKitError
from modelkit.serve.loading import load_version
from modelkit.serve.outcome import reason_of
from modelkit.serve.settings import Settings
from tests.unit.artifact.hostile_world import open_store, refusal, serve_files
from tests.unit.serve.serve_models import diabetes, iris, store_example
from tests.unit.serve.serve_process import server_config

# --- what the store holds isn't what was written


def tampered(root: Path, version: VersionRef, name: str) -> Path:
    return root / version.path / name


@pytest.mark.parametrize("name", [MODEL_ONNX, SIGNATURE, SAMPLES, MANIFEST])
@pytest.mark.parametrize("change", ["flipped", "shorter", "longer", "empty", "gone", "symlink", "folder", "pipe"])
def test_a_file_that_was_changed_after_it_was_written_is_refused(
    tmp_path: Path, root: Path, name: str, change: str
) -> None:
    version = store_example(open_store(root), iris())
    path = tampered(root, version, name)
    data = path.read_bytes()
    middle = len(data) // 2
    path.unlink()
    if change == "flipped":
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif change == "symlink":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif change == "folder":
        path.mkdir()
    elif change == "pipe":
        os.mkfifo(path)
    elif change != "gone":
        path.write_bytes({"shorter": data[:-1], "longer": data + b"\n", "empty": b""}[change])
    root_settings = Settings(config=server_config(root, version), port=0, work=tmp_path / "work", pod="pod")
    with pytest.raises(ModelKitError):
        load_version(root_settings, open_store(root), 1).close()


def test_a_file_that_the_manifest_does_not_list_is_not_fetched(tmp_path: Path, root: Path) -> None:
    version = store_example(open_store(root), iris())
    tampered(root, version, "model.skops").write_bytes(b"planted")
    folder = fetch_version(open_store(root), version, tmp_path / "target")
    assert sorted(path.name for path in folder.iterdir()) == sorted(iris().files)


def test_a_folder_that_is_a_symlink_is_refused(tmp_path: Path, root: Path) -> None:
    version = store_example(open_store(root), iris())
    folder = root / version.path
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelKitError):
        fetch_version(open_store(root), version, tmp_path / "target")


@pytest.mark.parametrize(
    "path", ["../store/models", "/etc", "models//a", "models/../../etc", "models\\a", "a\x00b", ""]
)
def test_a_version_path_that_leaves_the_store_is_refused(tmp_path: Path, root: Path, path: str) -> None:
    with pytest.raises(ModelKitError):
        fetch_version(open_store(root), VersionRef(number=1, path=path, digest="sha256:0"), tmp_path / "target")


# --- manifests that were written to do harm: their digest is the one that is asked for


def forged(root: Path, manifest: bytes, digest: str | None = None) -> VersionRef:
    version = store_example(open_store(root), iris())
    tampered(root, version, MANIFEST).write_bytes(manifest)
    return replace(version, digest=digest or f"sha256:{hashlib.sha256(manifest).hexdigest()}")


def manifest_of(**changes: Any) -> bytes:
    entry = {"sha256": "0" * 64, "size": 1}
    return json.dumps({"format": 1, "files": {"a": entry}, "metadata": {}} | changes).encode()


NAMES = [
    "../a",
    "/etc/passwd",
    "a/../../b",
    "model/../../a",
    "model//a",
    ".hidden",
    "a\\b",
    "",
    "a\x00b",
    "manifest.json",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_with_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, root: Path, name: str) -> None:
    manifest = manifest_of(files={name: {"sha256": "0" * 64, "size": 1}})
    error = refusal(tmp_path, forged(root, manifest))
    assert "can't be a file of a version" in str(error)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"sha256": "0" * 64, "size": -1},
        {"sha256": "0" * 64, "size": True},
        {"sha256": "0" * 64, "size": 1e3},
        {"sha256": "0" * 64, "size": 10**15},
        {"sha256": "0" * 63, "size": 1},
        {"sha256": "G" * 64, "size": 1},
        {"md5": "0" * 32, "size": 1},
        {"sha256": None, "size": 1},
        [],
        None,
    ],
    ids=str,
)
def test_a_manifest_with_another_entry_is_refused(tmp_path: Path, root: Path, entry: Any) -> None:
    refusal(tmp_path, forged(root, manifest_of(files={"a": entry})))


@pytest.mark.parametrize(
    "manifest",
    [
        manifest_of(format=2),
        manifest_of(format="1"),
        manifest_of(files=[]),
        manifest_of(metadata=None),
        b"",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        manifest_of() + b" " * 2**20,
    ],
    ids=["2", "text", "list", "null", "empty", "none", "bytes", "deep list", "deep object", "long"],
)
def test_a_manifest_of_another_shape_is_refused(tmp_path: Path, root: Path, manifest: bytes) -> None:
    refusal(tmp_path, forged(root, manifest))


@pytest.mark.parametrize("digest", ["", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha1:0", "../../x"])
def test_a_digest_of_another_kind_matches_nothing(tmp_path: Path, root: Path, digest: str) -> None:
    version = store_example(open_store(root), iris())
    assert reason_of(refusal(tmp_path, replace(version, digest=digest))) == "DigestMismatch"


# --- JSON files


def signature_with(**changes: Any) -> bytes:
    return json.dumps(json.loads(iris().files[SIGNATURE]) | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        signature_with(classes=[["setosa"], ["versicolor"]]),
        signature_with(classes=["setosa", "setosa", "virginica"]),
        signature_with(classes=[float("nan"), 1.0]),
        signature_with(classes=[]),
        signature_with(classes=[None, "setosa"]),
        signature_with(inputs=[]),
        signature_with(inputs=json.loads(iris().files[SIGNATURE])["inputs"][:1] * 4),
        signature_with(inputs=[{"name": "a", "dtype": "object", "kind": "numeric", "nullable": False}]),
        signature_with(inputs=[{"name": "a", "dtype": "float64", "kind": "code", "nullable": False}]),
        signature_with(onnx={"layout": "Columns;", "dtype": "float32", "label_output": "label"}),
        b"[" * 100_000,
        b"null",
        b'{"model": 1}',
    ],
)
def test_a_signature_that_nobody_could_work_with_is_refused(tmp_path: Path, data: bytes) -> None:
    error = serve_files(tmp_path, iris(), signature=data)
    assert "signature.json doesn't fit" in str(error)


def samples_with(**changes: Any) -> bytes:
    return json.dumps(json.loads(diabetes().files[SAMPLES]) | changes).encode()


@pytest.mark.parametrize(
    "data",
    [
        samples_with(predictions=[None] * 8),
        samples_with(predictions=["a"] * 8),
        samples_with(predictions=[[1.0]] * 8),
        samples_with(predictions=[10**400] * 8),
        samples_with(predictions={}),
        samples_with(rows=[[0.0] * 10] * 8),
        samples_with(rows={"f0": 1}),
        samples_with(rows=8),
        samples_with(rows=["text"] * 8),
        samples_with(rows=[{"f0": {"a": [1]}}] * 8),
        samples_with(rows=json.loads(diabetes().files[SAMPLES])["rows"][:1] * 20_000),
        samples_with(rows=[{f"f{index}": float("nan") for index in range(10)}] * 8),
        b"[" * 1_000_000,
        b'{"rows":' * 100_000,
        b"\x00",
    ],
)
def test_samples_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    error = serve_files(tmp_path, diabetes(), samples=data)
    assert reason_of(error) in ("SamplesNotAnswered", "SamplesDiffer")


def test_a_huge_file_beside_the_model_is_not_read(tmp_path: Path, root: Path) -> None:
    version = forged(root, manifest_of(files={"profile.json": {"sha256": "0" * 64, "size": 2**30}}))
    with tampered(root, version, "profile.json").open("wb") as file:
        file.truncate(2**30)
    assert "at most" in str(refusal(tmp_path, version))
