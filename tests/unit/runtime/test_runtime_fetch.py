"""The verified version lies where another model server looks for it, and nothing else does."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.artifact.version import DigestMismatchError, VersionNotFoundError, write_version
from modelkit.contract.codec import dumps
from modelkit.contract.config import RuntimeConfig, ServerConfig, StoreConfig, VersionRef
from modelkit.errors import RefusedError, StoreError
from modelkit.serve.runtime import fetch
from modelkit.serve.runtime.fetch import fetch_for_runtime
from modelkit.serve.runtime.layout import lay_out
from modelkit.store.store import Store
from tests.unit.artifact.test_artifact_signing import write_keys
from tests.unit.serve.serve_process import server_config

SAVED = {
    "signature.json": b"{}",
    "profile.json": b"{}",
    "model/saved_model.pb": b"graph",
    "model/variables/variables.data-00000-of-00001": bytes(range(256)) * 64,
    "model/config.pbtxt": b"max_batch_size: 8",
}


def store_at(folder: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{folder}"), {})


def configured(folder: Path, files: dict[str, bytes], **changes: Any) -> ServerConfig:
    """A server of a version with `files`, behind which a runtime knows it as `churn`."""
    path = "models/team/churn/3-abc"
    version = VersionRef(number=3, path=path, digest=write_version(store_at(folder), path, files, {}))
    runtime = RuntimeConfig(address="http://127.0.0.1:9000", protocol="V2", model_name="churn")
    config: ServerConfig = replace(server_config(folder, version, "churn"), runtime=runtime, **changes)
    return config


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_saved_model_lies_where_tensorflow_serving_and_triton_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_PART_BYTES", 1000)
    config = configured(tmp_path / "store", SAVED)
    found = fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")
    assert found == tmp_path / "models" / "churn" / "3"
    assert files_below(tmp_path / "models") == {
        "churn/config.pbtxt": SAVED["model/config.pbtxt"],
        "churn/3/saved_model.pb": SAVED["model/saved_model.pb"],
        "churn/3/variables/variables.data-00000-of-00001": SAVED["model/variables/variables.data-00000-of-00001"],
        "churn/3/signature.json": SAVED["signature.json"],
    }
    for path in (tmp_path / "models").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_a_second_attempt_replaces_what_the_first_left(tmp_path: Path) -> None:
    config = configured(tmp_path / "store", {"model.onnx": b"onnx"})
    left = tmp_path / "models" / "churn" / "3" / "variables"
    left.mkdir(parents=True)
    (left / "old.bin").write_bytes(b"old")
    for _ in range(2):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")
    assert files_below(tmp_path / "models") == {"churn/3/model.onnx": b"onnx"}


def test_a_trainings_own_file_goes_before_one_of_ours() -> None:
    own = ["signature.json", "model/signature.json", "model.onnx", "model/model.onnx/weights.bin"]
    places = {name: str(path) for name, path in lay_out(own, "churn", 3).items()}
    assert places == {
        "model/signature.json": "churn/3/signature.json",
        "model/model.onnx/weights.bin": "churn/3/model.onnx/weights.bin",
    }


def test_a_version_without_a_model_is_refused() -> None:
    with pytest.raises(RefusedError, match="version 3 has neither") as caught:
        lay_out(["signature.json", "samples.json", "profile.json"], "churn", 3)
    assert caught.value.reason == "VersionNotServable"


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/etc", "a//b", "a/", ".hidden", "a b", "a\n"])
def test_a_model_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="model name") as caught:
        lay_out(["model.onnx"], name, 3)
    assert caught.value.reason == "BadConfig"


def test_a_flipped_bit_is_refused_and_the_file_never_gets_its_name(tmp_path: Path) -> None:
    config = configured(tmp_path / "store", {"model.onnx": b"onnx"})
    changed = tmp_path / "store" / config.version.path / "model.onnx"
    changed.write_bytes(b"onnz")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx of the version .* isn't what its manifest says"):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")
    assert files_below(tmp_path / "models") == {}
    changed.write_bytes(b"onnx and more")
    with pytest.raises(DigestMismatchError):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")
    changed.unlink()
    with pytest.raises(VersionNotFoundError, match=r"model\.onnx .* is missing"):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")


def test_a_link_in_the_store_is_not_followed(tmp_path: Path) -> None:
    config = configured(tmp_path / "store", {"model.onnx": b"onnx"})
    changed = tmp_path / "store" / config.version.path / "model.onnx"
    (tmp_path / "other").write_bytes(b"onnx")
    changed.unlink()
    changed.symlink_to(tmp_path / "other")
    with pytest.raises(VersionNotFoundError):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")


def test_a_volume_that_cannot_be_written_may_be_tried_again(tmp_path: Path) -> None:
    config = configured(tmp_path / "store", {"model.onnx": b"onnx"})
    (tmp_path / "models").write_bytes(b"not a folder")
    with pytest.raises(StoreError, match=r"can't be written .* it takes 4 bytes"):
        fetch_for_runtime(config, store_at(tmp_path / "store"), tmp_path / "models")


def run(config: ServerConfig, folder: Path) -> tuple[int, dict[str, str]]:
    """The init container; its exit code and termination message."""
    log = folder / "termination-log"
    log.unlink(missing_ok=True)
    environ = os.environ | {
        "MODELLOOP_CONFIG": dumps(config),
        "MODELLOOP_MODELS": str(folder / "models"),
        "MODELLOOP_TERMINATION_LOG": str(log),
    }
    code = subprocess.run([sys.executable, "-m", "modelkit.serve.runtime.fetch"], env=environ, timeout=60).returncode
    return code, json.loads(log.read_text()) if log.exists() else {}


def test_the_init_container_ends_as_the_server_does(tmp_path: Path) -> None:
    config = configured(tmp_path / "store", SAVED)
    assert run(config, tmp_path) == (0, {})
    assert (tmp_path / "models" / "churn" / "3" / "saved_model.pb").read_bytes() == b"graph"
    keys = write_keys(tmp_path / "keys")
    code, message = run(replace(config, public_key=str(keys / "public.pem")), tmp_path)
    assert (code, message["reason"]) == (2, "SignatureMissing")
    code, message = run(replace(config, runtime=None), tmp_path)
    assert (code, message["reason"]) == (2, "BadConfig")
    forged = replace(config, version=replace(config.version, digest="sha256:" + "0" * 64))
    code, message = run(forged, tmp_path)
    assert (code, message["reason"], message["outcome"]) == (2, "DigestMismatch", "Failed")
