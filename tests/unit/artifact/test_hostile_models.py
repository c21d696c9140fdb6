"""A version whose model wants to do harm is refused with a reason, and nothing in it runs."""

import functools
import json
import tracemalloc
from collections.abc import Callable
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
from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_ONNX
from modelkit.serve.loading import load_version
from modelkit.serve.outcome import reason_of
from modelkit.serve.settings import Settings
from tests.unit.artifact import hostile_files as hostile
from tests.unit.artifact import hostile_onnx
from tests.unit.artifact.hostile_world import REFUSED, nothing_runs, open_store, serve_files
from tests.unit.serve.serve_models import diabetes, iris, native, store_example
from tests.unit.serve.serve_process import server_config, start_pod


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


def test_an_entry_that_says_a_smaller_size_is_not_unfolded() -> None:
    data = hostile.disguised(64 * 2**20, 100)
    tracemalloc.start()
    try:
        # The checksum is that of what is said: the reader alone would give it out as whole.
        with pytest.raises(ArtifactError, match=r"doesn't load|unfolds to more than it says"):
            loads_native(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_real_model_may_unfold_to_much_more_than_its_size() -> None:
    archive.check_archive(hostile.bomb(100 * 2**20))


# --- ONNX


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with which a model would load, where a hostile one may look for them."""
    path = tmp_path_factory.mktemp("outside") / "weights.bin"
    path.write_bytes(np.ones(10, dtype=np.float32).tobytes())
    return path


@params(hostile_onnx.hostile_models)
def test_a_hostile_onnx_model_is_refused(
    tmp_path: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside.parent)  # ONNX Runtime looks for weights from here when it has no path
    error = serve_files(tmp_path, diabetes(), onnx=hostile_onnx.hostile_models(outside)[name])
    assert reason_of(error) in ("ModelNotLoadable", "SamplesNotAnswered", "SamplesDiffer")


EXTERNAL = [name for name in hostile_onnx.hostile_models(Path("/nowhere/weights")) if name.startswith("weights")]


@pytest.mark.parametrize("name", EXTERNAL)
def test_weights_in_another_file_are_refused_unread_by_server_and_trainer(
    tmp_path: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outside.parent)
    model = hostile_onnx.hostile_models(outside)[name]
    assert "keeps weights in another file" in str(serve_files(tmp_path, diabetes(), onnx=model))
    for file, data in (diabetes().files | {MODEL_ONNX: model}).items():
        (tmp_path / file).write_bytes(data)
    with pytest.raises(ArtifactError, match="keeps weights in another file"):
        StoredModel.open(tmp_path)


def test_a_word_that_is_also_used_for_files_does_no_harm(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["X", "location"], ["y"], doc_string="location, external_data")
    total = helper.make_node("Squeeze", ["y"], ["variable"])
    weights = numpy_helper.from_array(np.ones((10, 1), np.float32), "location")
    check_onnx(hostile_onnx.onnx_model([product, total], [weights]))
    loop = hostile_onnx.endless() + b"\x32\x08location"  # a doc_string behind a model with subgraphs
    check_onnx(loop)
    with pytest.raises(ArtifactError, match="in the middle of a field"):
        check_onnx(loop + b"\x32\x09location")


def test_a_model_that_never_answers_ends_the_process_with_a_reason(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = diabetes().files | {MODEL_ONNX: hostile_onnx.endless()}
    version = store_example(open_store(root), replace(diabetes(), files=files))
    monkeypatch.setenv("MODELLOOP_LOAD_SECONDS", "1")
    pod = start_pod(server_config(root, version), tmp_path)
    assert pod.process.wait(30) == REFUSED
    reason = json.loads(pod.termination_log.read_text())
    assert reason["reason"] == "LoadingTimeout"
    assert "within 1 s" in reason["message"]
