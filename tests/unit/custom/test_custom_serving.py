"""Of a custom training, what is served: model.onnx that answers as the image said, and nothing else. Signatures too."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import ComparisonConfig, ServerConfig, VersionRef
from modelkit.contract.files import signature_file
from modelkit.contract.recipe import SignConfig
from modelkit.errors import RefusedError
from modelkit.serve.loading import load_version
from modelkit.serve.settings import Settings
from tests.unit.artifact.test_artifact_signing import write_keys
from tests.unit.custom.custom_world import Ended, World
from tests.unit.serve.serve_process import running_pod, server_config, start_pod


@dataclass(frozen=True)
class Fitted:
    """A scikit-learn model as another framework's: predictions and ONNX with the contract's names."""

    predictions: np.ndarray[Any, Any]
    probabilities: np.ndarray[Any, Any]
    onnx: bytes


def fit(world: World, **options: Any) -> Fitted:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.linear_model import LogisticRegression

    train, test = (pd.read_parquet(world.inputs / f"{part}.parquet") for part in ("train", "test"))
    model = LogisticRegression(max_iter=500).fit(train[list(test)].to_numpy(), train["target"])
    number = FloatTensorType if options.get("narrow") else DoubleTensorType
    converted = convert_sklearn(
        model,
        initial_types=[(options.get("input", "X"), number([None, test.shape[1]]))],
        options={"zipmap": False},
    )
    rows = test.to_numpy()
    return Fitted(model.predict(rows), model.predict_proba(rows), converted.SerializeToString())


def leave(world: World, fitted: Fitted, onnx: bytes | None = None) -> Ended:
    table: dict[str, Any] = {"prediction": fitted.predictions}
    table |= {f"probability_{index}": column for index, column in enumerate(fitted.probabilities.T)}
    pd.DataFrame(table).to_parquet(world.outputs / "predictions.parquet", index=False)
    (world.outputs / "model.onnx").write_bytes(fitted.onnx if onnx is None else onnx)
    return world.finish()


def serve(world: World, version: VersionRef, **changes: Any) -> None:
    """Load the version as a server does; raises what it would end with."""
    config: ServerConfig = replace(server_config(world.root / "store", version, "flowers"), **changes)
    settings = Settings(config=config, port=0, work=world.root / "work", pod="pod")
    load_version(settings, world.store, 1).close()


def test_an_image_with_onnx_is_served_explained_and_compared(staged: Callable[..., World]) -> None:
    world = staged()
    fitted = fit(world)
    ended = leave(world, fitted)
    assert ended.code == 0, ended.result.message
    assert (ended.result.format, ended.result.format_message) == ("Onnx", None)
    names = set(world.json("manifest.json")["files"])
    assert {"model.onnx", "samples.json", "importance.json"} <= names
    assert len(world.json("importance.json")["features"]) == 4
    champion = world.ref(ended.result)
    again = world.another(number=2, version="2-abc", champion=champion, comparisons=(ComparisonConfig(metric="f1"),))
    assert again.stage().code == 0
    compared = leave(again, fit(again)).result.champion
    assert compared is not None
    assert compared.differences["f1"].value == 0
    pod_config = server_config(world.root / "store", champion, "flowers")
    with running_pod(pod_config, world.root) as pod:
        test = pd.read_parquet(world.inputs / "test.parquet")
        answer = httpx.post(f"{pod.url}/predict", json={"features": test.head(5).to_dict("records")})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == fitted.predictions[:5].tolist()


def test_onnx_that_answers_otherwise_is_not_used(staged: Callable[..., World]) -> None:
    world = staged()
    fitted = fit(world)
    ended = leave(world, replace(fitted, probabilities=np.roll(fitted.probabilities, 1, axis=0)))
    assert ended.code == 0
    assert ended.result.format == "Custom"
    assert "model.onnx isn't used: probabilities differ by up to" in (ended.result.format_message or "")
    assert "model.onnx" not in world.json("manifest.json")["files"]


@pytest.mark.parametrize(
    ("options", "content", "text"),
    [
        ({}, b"not a model", "doesn't load in ONNX Runtime"),
        ({"input": "rows"}, None, "its inputs must be named X; found rows"),
    ],
)
def test_onnx_that_cannot_be_called_is_not_used(
    staged: Callable[..., World], options: dict[str, Any], content: bytes | None, text: str
) -> None:
    world = staged()
    ended = leave(world, fit(world, **options), content)
    assert (ended.code, ended.result.format) == (0, "Custom")
    assert text in (ended.result.format_message or "")


def test_onnx_in_32_bit_is_used_when_it_agrees(staged: Callable[..., World]) -> None:
    world = staged()
    assert leave(world, fit(world, narrow=True)).result.format == "Onnx"
    assert world.json("signature.json")["onnx"]["dtype"] == "float32"


def test_a_version_without_onnx_is_refused_by_the_server(world: World) -> None:
    ended = world.finish()
    with pytest.raises(RefusedError, match=r"wrote no model\.onnx.*spec\.image") as caught:
        serve(world, world.ref(ended.result))
    assert caught.value.reason == "VersionNotServable"


def test_a_signed_run_is_served_by_its_own_key_only(staged: Callable[..., World], tmp_path: Path) -> None:
    keys, others = write_keys(tmp_path / "keys"), write_keys(tmp_path / "others")
    world = staged(sign=SignConfig(private_key=str(keys / "private.pem")))
    ended = leave(world, fit(world))
    assert (ended.code, ended.result.signed) == (0, True)
    version = world.ref(ended.result)
    serve(world, version, public_key=str(keys / "public.pem"))
    pod_config = server_config(tmp_path / "store", version, "flowers")
    for key, reason in ((others / "public.pem", "SignatureInvalid"), (tmp_path / "none.pem", "SigningKeyMissing")):
        pod = start_pod(replace(pod_config, public_key=str(key)), tmp_path, reason)
        assert pod.process.wait(60) == 2
        assert json.loads(pod.termination_log.read_text())["reason"] == reason
    (tmp_path / "store" / version.path / signature_file(version.digest)).unlink()
    pod = start_pod(replace(pod_config, public_key=str(keys / "public.pem")), tmp_path, "unsigned")
    assert pod.process.wait(60) == 2
    assert json.loads(pod.termination_log.read_text())["reason"] == "SignatureMissing"


def test_a_key_that_is_missing_ends_the_run_before_anything_is_read(tmp_path: Path) -> None:
    world = World.of(tmp_path, data="builtin://nothing", sign=SignConfig(private_key=str(tmp_path / "private.pem")))
    assert world.stage().said == (2, "SigningKeyMissing")
