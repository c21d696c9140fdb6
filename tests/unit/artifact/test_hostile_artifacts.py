"""A version whose files want to do harm is refused with a reason, and nothing in it runs."""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from modelkit.artifact import archive
from modelkit.artifact.model import StoredModel
from modelkit.artifact.native import loads_native
from modelkit.artifact.onnx_audit import check_onnx
from modelkit.artifact.version import ArtifactError, fetch_version
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import MANIFEST, MODEL_ONNX, MODEL_SKOPS, SAMPLES, SIGNATURE
from modelkit.errors import ModelKitError
from modelkit.serve.loading import load_version
from modelkit.serve.outcome import exit_code_of, reason_of
from modelkit.serve.settings import Settings
from modelkit.store.store import Store
from tests.unit.artifact import hostile_files as hostile
from tests.unit.serve.serve_models import Example, diabetes, iris, native, store_example
from tests.unit.serve.serve_process import server_config, start_pod

REFUSED = 2
PAYLOAD_EVENTS = frozenset({"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"})
watched: list[str] | None = None


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if watched is not None and event in PAYLOAD_EVENTS:
        watched.append(event)


sys.addaudithook(_watch)  # There is no way to take one away: it looks only while something is watched.


@contextmanager
def nothing_runs(canary: Path) -> Iterator[None]:
    """No process, no connection and no canary."""
    global watched
    watched = []
    try:
        yield
        assert watched == []
    finally:
        watched = None
    assert not canary.exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def open_store(root: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{root}"), {})


def refusal(tmp_path: Path, version: VersionRef) -> ModelKitError:
    """What the server says to the version; it ends for good, without another attempt."""
    root = tmp_path / "store"
    settings = Settings(config=server_config(root, version), port=0, work=tmp_path / "work", pod="pod")
    with nothing_runs(tmp_path / "canary"), pytest.raises(ModelKitError) as raised:
        load_version(settings, open_store(root), 1).close()
    assert exit_code_of(raised.value) == REFUSED
    assert str(raised.value)
    return raised.value


def serve_files(tmp_path: Path, example: Example, **files: bytes) -> ModelKitError:
    """The refusal of the example's version with other files: its digest is right, its content isn't."""
    names = {"onnx": MODEL_ONNX, "skops": MODEL_SKOPS, "signature": SIGNATURE, "samples": SAMPLES}
    changed = example.files | {names[key]: data for key, data in files.items()}
    return refusal(tmp_path, store_example(open_store(tmp_path / "store"), replace(example, files=changed)))


def params(cases: Callable[[Path], dict[str, bytes]]) -> Any:
    return pytest.mark.parametrize("name", list(_cases(cases, Path("/nowhere/canary"))))


@functools.cache
def _cases(cases: Callable[[Path], dict[str, bytes]], canary: Path) -> dict[str, bytes]:
    return cases(canary)


# --- pickles under every name


@pytest.mark.parametrize("file", ["onnx", "skops", "signature", "samples"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_no_model_whatever_its_name(tmp_path: Path, canary: Path, file: str, protocol: int) -> None:
    example = native("cancer") if file == "skops" else diabetes()
    serve_files(tmp_path, example, **{file: hostile.pickled(canary, protocol)})


@pytest.mark.parametrize("file", ["onnx", "skops"])
@pytest.mark.parametrize("compress", [0, 3])
def test_a_joblib_file_is_no_model(tmp_path: Path, canary: Path, file: str, compress: int) -> None:
    example = native("cancer") if file == "skops" else diabetes()
    serve_files(tmp_path, example, **{file: hostile.joblib_file(canary, compress)})


def test_the_payload_of_these_tests_does_run_where_pickles_are_read(tmp_path: Path, canary: Path) -> None:
    import pickle

    pickle.loads(hostile.pickled(canary))
    assert canary.exists()


def test_files_beside_the_model_are_never_run(tmp_path: Path, root: Path, canary: Path) -> None:
    code = f"import os; os.system('touch {canary}')".encode()
    extra = dict.fromkeys(("sitecustomize.py", "conftest.py", "model.pth", "numpy.py", "a.so"), code)
    extra["model.pkl"] = hostile.pickled(canary)
    version = store_example(open_store(root), replace(iris(), files=iris().files | extra))
    settings = Settings(config=server_config(root, version), port=0, work=tmp_path / "work", pod="pod")
    with nothing_runs(canary):
        load_version(settings, open_store(root), 1).close()


# --- skops


@params(hostile.gadgets)
def test_a_skops_file_constructs_nothing_that_is_not_listed(tmp_path: Path, canary: Path, name: str) -> None:
    data = hostile.gadgets(canary)[name]
    error = serve_files(tmp_path, native("cancer"), skops=data)
    assert reason_of(error) in ("ModelNotLoadable", "SamplesNotAnswered")
    with nothing_runs(canary), pytest.raises(ArtifactError, match=r"model\.skops"):
        loads_native(data)


@params(hostile.broken_archives)
def test_an_archive_that_no_writer_makes_is_refused(tmp_path: Path, canary: Path, name: str) -> None:
    data = _cases(hostile.broken_archives, Path("/nowhere/canary"))[name]
    error = serve_files(tmp_path, native("cancer"), skops=data)
    assert reason_of(error) == "ModelNotLoadable"


def test_an_archive_of_too_many_entries_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ENTRIES", 100)
    with pytest.raises(ArtifactError, match="102 entries, more than 100"):
        loads_native(hostile.entries(*(f"{number}.npy" for number in range(101))))


def test_a_name_that_comes_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = hostile.entries("schema.json")
    with pytest.raises(ArtifactError, match="a name comes twice"):
        loads_native(data)


def test_a_real_model_may_unfold_to_much_more_than_its_size() -> None:
    archive.check_archive(hostile.bomb(100 * 2**20))


# --- ONNX


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with which a model would load, where a hostile one may look for them."""
    path = tmp_path_factory.mktemp("outside") / "weights.bin"
    path.write_bytes(np.ones(10, dtype=np.float32).tobytes())
    return path


@params(hostile.hostile_models)
def test_a_hostile_onnx_model_is_refused(
    tmp_path: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside.parent)  # ONNX Runtime looks for weights from here when it has no path
    error = serve_files(tmp_path, diabetes(), onnx=hostile.hostile_models(outside)[name])
    assert reason_of(error) in ("ModelNotLoadable", "SamplesNotAnswered", "SamplesDiffer")


EXTERNAL = [name for name in hostile.hostile_models(Path("/nowhere/weights")) if name.startswith("weights")]


@pytest.mark.parametrize("name", EXTERNAL)
def test_weights_in_another_file_are_refused_unread_by_server_and_trainer(
    tmp_path: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside.parent)
    model = hostile.hostile_models(outside)[name]
    assert "keeps weights in another file" in str(serve_files(tmp_path, diabetes(), onnx=model))
    for file, data in (diabetes().files | {MODEL_ONNX: model}).items():
        (tmp_path / file).write_bytes(data)
    with pytest.raises(ArtifactError, match="keeps weights in another file"):
        StoredModel.open(tmp_path)


def test_a_word_that_is_also_used_for_files_does_no_harm(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["X", "location"], ["y"], doc_string="location, external_data")
    total = helper.make_node("Squeeze", ["y"], ["variable"])
    weights = numpy_helper.from_array(np.ones((10, 1), np.float32), "location")
    check_onnx(hostile.onnx_model([product, total], [weights]))
    loop = hostile.endless() + b"\x32\x08location"  # a doc_string behind a model with subgraphs
    check_onnx(loop)
    with pytest.raises(ArtifactError, match="in the middle of a field"):
        check_onnx(loop + b"\x32\x09location")


def test_a_model_that_never_answers_ends_the_process_with_a_reason(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = diabetes().files | {MODEL_ONNX: hostile.endless()}
    version = store_example(open_store(root), replace(diabetes(), files=files))
    monkeypatch.setenv("MODELLOOP_LOAD_SECONDS", "1")
    pod = start_pod(server_config(root, version), tmp_path)
    assert pod.process.wait(30) == REFUSED
    reason = json.loads(pod.termination_log.read_text())
    assert reason["reason"] == "LoadingTimeout"
    assert "within 1 s" in reason["message"]


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
