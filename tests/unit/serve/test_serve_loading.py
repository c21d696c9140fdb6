"""Which versions are served and which are refused, and why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.artifact.signature import dump_signature
from modelkit.artifact.version import ArtifactError, DigestMismatchError, VersionNotFoundError
from modelkit.contract.codec import dumps
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.environment import CONFIG
from modelkit.errors import RefusedError
from modelkit.serve.cpu import inference_threads, read_cpu_limit
from modelkit.serve.errors import ModelUnusableError
from modelkit.serve.loading import load_version
from modelkit.serve.settings import Settings, read_settings
from modelkit.store.store import Store
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, native, people, store_example
from tests.unit.serve.serve_process import server_config


def load(tmp_path: Path, version: VersionRef) -> None:
    root = tmp_path / "store"
    config = server_config(root, version)
    store = Store.open(config.store, {})
    load_version(Settings(config=config, port=0, work=tmp_path / "work", pod="pod"), store, 1).close()


def stored(tmp_path: Path, example: Example, **changes: bytes) -> VersionRef:
    return store_example(Store.open(StoreConfig(uri=f"file://{tmp_path / 'store'}"), {}), example, **changes)


def samples(example: Example, **changes: Any) -> bytes:
    return json.dumps(json.loads(example.files["samples.json"]) | changes).encode()


@pytest.mark.parametrize("example", [cancer, iris, diabetes, people], ids=["binary", "text", "regression", "columns"])
def test_a_good_version_loads(tmp_path: Path, example: Any) -> None:
    load(tmp_path, stored(tmp_path, example()))


def test_another_digest_is_refused(tmp_path: Path) -> None:
    version = replace(stored(tmp_path, iris()), digest="sha256:" + "0" * 64)
    with pytest.raises(DigestMismatchError):
        load(tmp_path, version)


def test_a_version_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError):
        load(tmp_path, VersionRef(number=1, path="models/team/iris/1-x", digest="sha256:" + "0" * 64))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x80\x04cos\nsystem\n"])
def test_a_model_that_does_not_load_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelUnusableError, match=r"model\.onnx doesn't load"):
        load(tmp_path, stored(tmp_path, iris(), onnx=content))


def test_a_native_model_that_does_not_load_is_refused(tmp_path: Path) -> None:
    broken = native("cancer")
    files = broken.files | {"model.skops": b"\x80\x04cos\nsystem\n(S'true'\ntR."}
    with pytest.raises(ModelUnusableError, match=r"model\.skops"):
        load(tmp_path, stored(tmp_path, replace(broken, files=files)))


def test_a_signature_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"signature\.json"):
        load(tmp_path, stored(tmp_path, iris(), signature=b"{}"))


@pytest.mark.parametrize(
    ("example", "changes", "message"),
    [
        (iris, {"predictions": ["virginica"] * 8}, "the predictions differ"),
        (iris, {"predictions": ["setosa"]}, "the number of answers differ"),
        (iris, {"probabilities": [[0.4, 0.3, 0.3]] * 8}, "the probabilities differ"),
        (iris, {"probabilities": [[1.0]] * 8}, "the shape of the probabilities differ"),
        (iris, {"probabilities": None}, "whether there are probabilities differ"),
        (diabetes, {"predictions": [1.0] * 8}, "the predictions differ"),
    ],
)
def test_a_version_that_answers_its_samples_otherwise_is_refused(
    tmp_path: Path, example: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelUnusableError, match=message) as raised:
        load(tmp_path, stored(tmp_path, example(), samples=samples(example(), **changes)))
    assert raised.value.reason == "SamplesDiffer"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"rows": []}', b'{"rows": [{"a": 1}], "predictions": [1]}'])
def test_a_version_without_usable_samples_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelUnusableError) as raised:
        load(tmp_path, stored(tmp_path, iris(), samples=content))
    assert raised.value.reason == "SamplesNotAnswered"


def test_a_signature_of_another_width_is_refused(tmp_path: Path) -> None:
    signature = replace(iris().signature, inputs=iris().signature.inputs[:3])
    with pytest.raises(ModelUnusableError, match="can't answer its own samples"):
        load(tmp_path, stored(tmp_path, iris(), signature=dump_signature(signature)))


def test_labels_that_onnx_has_no_type_for_come_back_as_they_were(tmp_path: Path) -> None:
    signature = replace(cancer().signature, classes=(False, True))
    answers = [bool(label) for label in cancer().predictions(8)]
    changes = {"signature": dump_signature(signature), "samples": samples(cancer(), predictions=answers)}
    load(tmp_path, stored(tmp_path, cancer(), **changes))


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    config = server_config(tmp_path, VersionRef(number=1, path="a", digest="b"))
    settings = read_settings({CONFIG: dumps(config), "POD_NAME": "pod-7", "MODELLOOP_HTTP_PORT": "9000"})
    assert (settings.config, settings.pod, settings.port) == (config, "pod-7", 9000)
    assert str(settings.work) == "/var/lib/modelloop/work"


@pytest.mark.parametrize("environ", [{}, {CONFIG: "{"}, {CONFIG: "{}"}])
def test_settings_that_do_not_fit_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match=CONFIG):
        read_settings(environ)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "100000"}, 0.25),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_cpu_limit_is_the_cgroups(tmp_path: Path, files: dict[str, str], limit: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    unlimited = read_cpu_limit(tmp_path / "nothing")
    assert read_cpu_limit(tmp_path) == (limit or unlimited)
    assert unlimited >= 1


def test_threads_are_whole_processors_and_at_least_one() -> None:
    assert [inference_threads(limit) for limit in (0.1, 1.0, 1.9, 4.0)] == [1, 1, 1, 4]
