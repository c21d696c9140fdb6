"""/explain: the base and what each column adds make the answer, for every kind of model, over HTTP."""

import asyncio
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.artifact.signature import InputColumn, OutputColumn, Signature
from modelkit.contract.config import LimitsConfig
from modelkit.contract.files import SAMPLES
from modelkit.evaluate.shares import MOST_EXACT
from modelkit.serve import explainer as module
from modelkit.serve.batch import Batch, Features, build_batch
from modelkit.serve.errors import InferenceTimeoutError, ModelUnusableError, UnprocessableRequestError
from modelkit.serve.explainer import BACKGROUND, Explainer, open_explainer
from modelkit.serve.model import Answer
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import Example, cancer, diabetes, iris, native, people

EXAMPLES: dict[str, Callable[[], Example]] = {
    "binary, sampled": cancer,
    "text labels, exact": iris,
    "regression": diabetes,
    "text columns": people,
    "native": lambda: native("cancer"),
    "native text columns": lambda: native("people"),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_base_and_contributions_are_the_answer_that_predict_gives(shared: Serve, name: str) -> None:
    example = EXAMPLES[name]()
    served = shared(example)
    said = (await served.predict(example.values(3))).json()
    for features in (example.values(3), example.records(3)):
        response = await served.client.post("/explain", json={"features": features})
        found = response.raise_for_status().json()
        assert (found["model"], found["version"]) == (example.signature.model, "3")
        assert found["id"] == response.headers["x-request-id"]
        assert found["method"] == ("Exact" if len(example.names) <= MOST_EXACT else "Sampled")
        for row, explanation in enumerate(found["explanations"]):
            if example.signature.classes is None:
                answer, expected = explanation["prediction"], said["predictions"][row]
                assert found["explains"] == "Prediction"
            else:
                assert explanation["prediction"] == said["predictions"][row]
                position = example.signature.classes.index(explanation["prediction"])
                answer, expected = explanation["probability"], said["probabilities"][row][position]
                assert found["explains"] == "Probability"
            assert answer == pytest.approx(expected, rel=1e-6)
            assert list(explanation["contributions"]) == example.names
            total = explanation["base"] + sum(explanation["contributions"].values())
            assert total == pytest.approx(answer, rel=1e-9, abs=1e-9)


async def test_the_base_is_the_mean_answer_to_the_versions_samples(shared: Serve) -> None:
    example = iris()
    found = (await shared(example).client.post("/explain", json={"features": example.values(1)})).json()
    position = example.pipeline.classes_.tolist().index(found["explanations"][0]["prediction"])
    expected = example.probabilities(8)[:, position].mean()
    assert found["explanations"][0]["base"] == pytest.approx(expected, abs=1e-6)


async def test_a_single_row_and_the_v1_form_get_the_same(shared: Serve) -> None:
    example = people()
    served = shared(example)
    name = example.signature.model
    row = example.records(1)[0]
    answers = [
        (await served.client.post(path, json={field: rows})).raise_for_status().json()["explanations"]
        for path, field, rows in (
            ("/explain", "features", row),
            ("/explain", "features", [list(row.values())]),
            (f"/v1/models/{name}:explain", "instances", [row]),
            (f"/v1/models/{name}/versions/3:explain", "instances", [row]),
        )
    ]
    assert all(answer == answers[0] for answer in answers)


async def test_missing_values_are_explained(shared: Serve) -> None:
    record = people().records(1)[0] | {"age": None, "city": None}
    found = (await shared(people()).client.post("/explain", json={"features": record})).raise_for_status().json()
    explanation = found["explanations"][0]
    expected = people().pipeline.predict_proba(np.array([[np.nan, "", float(record["vip"]), record["visits"]]], object))
    assert explanation["probability"] == pytest.approx(expected.max(), abs=1e-5)


async def test_explained_rows_are_no_traffic(serve: Serve) -> None:
    served = serve(cancer())
    (await served.client.post("/explain", json={"features": cancer().values(2)})).raise_for_status()
    served.version.close()
    assert list(served.store.list("captures")) == []


async def test_more_work_than_the_limit_is_a_422_that_says_how_many_rows_go(shared: Serve) -> None:
    response = await shared(cancer()).client.post("/explain", json={"features": cancer().values(200)})
    assert response.status_code == 422
    # 4 pairs of orders × 29 sets × 8 samples
    assert response.json()["error"] == (
        "explaining 200 rows of 30 columns takes 371200 answers of the model; the limit is 200000: send at most 107 "
        "rows at once"
    )


async def test_an_explanation_that_takes_too_long_is_a_504(serve: Serve) -> None:
    served = serve(native("cancer"), limits=LimitsConfig(inference_seconds=0.02))
    response = await served.client.post("/explain", json={"features": cancer().values(20)})
    assert response.status_code == 504


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"features": []}, "expected at least one row"),
        ({"instances": [[1]]}, "unknown field 'instances'"),
        ({"features": [[1, 2]]}, "row 0 has 2 values"),
    ],
)
async def test_a_bad_body_is_a_400_that_names_the_field(shared: Serve, body: Any, message: str) -> None:
    response = await shared(cancer()).client.post("/explain", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


class Fitted:
    """A scikit-learn pipeline as the server's model; counts its answers."""

    platform = "test"

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.calls = pipeline, list[int]()

    def predict(self, batch: Batch) -> Answer:
        assert batch.matrix is not None
        self.calls.append(batch.rows)
        predictions = self.pipeline.predict(batch.matrix)
        if predictions.dtype == np.float64 and np.isinf(predictions).any():
            raise UnprocessableRequestError("the model has no finite answer to row 0")
        has_probabilities = hasattr(self.pipeline, "predict_proba")
        return Answer(predictions.tolist(), self.pipeline.predict_proba(batch.matrix) if has_probabilities else None)


def explainer_of(pipeline: Any, background: NDArray[np.float64], classes: tuple[Any, ...] | None) -> Explainer:
    inputs = tuple(
        InputColumn(name=f"c{index}", dtype="float64", kind="numeric", nullable=False)
        for index in range(background.shape[1])
    )
    signature = Signature(
        model="m",
        number=1,
        task="Regression" if classes is None else "Classification",
        target="y",
        metric="f1",
        classes=classes,
        inputs=inputs,
        outputs=(OutputColumn(name="prediction", dtype="float64"),),
    )
    features = Features.of(signature)
    return Explainer(signature, features, Fitted(pipeline), build_batch(features, background.tolist()))


def explain(explainer: Explainer, rows: NDArray[np.float64], deadline: float = float("inf")) -> NDArray[np.float64]:
    batch = build_batch(explainer.features, rows.tolist())
    answer = explainer._model.predict(batch)
    return np.array([found.contributions for found in explainer.explain(batch, answer, deadline)])


RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(80, 5))
CLASSES = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(int)


@pytest.mark.parametrize(
    "model", [LogisticRegression(), GradientBoostingClassifier(n_estimators=10, random_state=0)], ids=["linear", "tree"]
)
def test_contributions_are_those_of_the_shap_package(model: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba, on import
        import shap
    pipeline = make_pipeline(StandardScaler(), model).fit(ROWS, CLASSES)
    background, rows = ROWS[:BACKGROUND], ROWS[40:44]
    oracle = shap.explainers.Exact(pipeline.predict_proba, shap.maskers.Independent(background))(rows).values
    found = explain(explainer_of(pipeline, background, (0, 1)), rows)
    predicted = pipeline.predict(rows)
    np.testing.assert_allclose(found, oracle[np.arange(4), :, predicted], atol=1e-10)


def test_without_probabilities_the_predicted_label_is_explained() -> None:
    model = Perceptron(random_state=0).fit(ROWS, CLASSES)
    explainer = explainer_of(model, ROWS[:BACKGROUND], (0, 1))
    assert explainer.explains == "Label"
    batch = build_batch(explainer.features, ROWS[40:44].tolist())
    for found in explainer.explain(batch, explainer._model.predict(batch)):
        assert found.probability is None
        assert found.base == np.mean(model.predict(ROWS[:BACKGROUND]) == found.prediction)
        assert found.base + found.contributions.sum() == pytest.approx(1.0)


def test_no_more_is_asked_of_the_model_than_was_counted_nor_too_much_at_once() -> None:
    wide = RNG.normal(size=(30, 40))
    model = Fitted(LogisticRegression().fit(wide, wide[:, 0] > 0))
    explainer = explainer_of(model.pipeline, wide[:BACKGROUND], (False, True))
    explain(explainer, wide[:2])
    calls = explainer._model.calls  # type: ignore[attr-defined]
    assert sum(calls[2:]) == 2 * explainer._per_row
    assert max(calls) <= module._ANSWERS_AT_ONCE
    with pytest.raises(UnprocessableRequestError, match="the limit is 200000: send at most 42 rows"):
        explainer.check_rows(43)


def test_an_explanation_ends_at_its_deadline() -> None:
    explainer = explainer_of(LogisticRegression().fit(ROWS, CLASSES), ROWS[:BACKGROUND], (0, 1))
    with pytest.raises(InferenceTimeoutError, match="send fewer rows"):
        explain(explainer, ROWS[:1], deadline=time.monotonic() - 1)


def test_a_mixture_without_a_finite_answer_names_the_clients_row() -> None:
    class Picky:
        def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.where((rows[:, 0] > 5) & (rows[:, 1] < 5), np.inf, 0.0)

    explainer = explainer_of(Picky(), ROWS[:5], None)
    with pytest.raises(UnprocessableRequestError, match="row 1 can't be explained"):
        explain(explainer, np.array([[1.0] * 5, [9.0] * 5]))


def test_the_background_is_spread_over_the_samples(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS, CLASSES)
    signature = explainer_of(model, ROWS[:2], (0, 1)).signature
    rows = [dict(zip(Features.of(signature).names, row, strict=True)) for row in ROWS.tolist()]
    (tmp_path / SAMPLES).write_bytes(orjson.dumps({"rows": rows}))
    found = open_explainer(tmp_path, signature, Fitted(model))._background
    assert found.matrix is not None
    assert found.rows == BACKGROUND
    assert (found.matrix[0] == ROWS[0]).all()
    assert (found.matrix[-1] == ROWS[-1]).all()


def test_a_version_without_samples_is_refused(tmp_path: Path) -> None:
    signature = explainer_of(LogisticRegression().fit(ROWS, CLASSES), ROWS[:2], (0, 1)).signature
    with pytest.raises(ModelUnusableError, match="can't answer its own samples"):
        open_explainer(tmp_path, signature, Fitted(None))


async def test_an_explanation_keeps_no_prediction_waiting(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(native("cancer"))
    explainer = served.version.service.explainer
    assert explainer is not None
    explaining, finish = threading.Event(), threading.Event()
    share_out = module.share_out

    def wait(*args: Any) -> Any:
        explaining.set()
        assert finish.wait(30)
        return share_out(*args)

    monkeypatch.setattr(module, "share_out", wait)
    asked = [
        asyncio.ensure_future(served.client.post("/explain", json={"features": cancer().values(1)})) for _ in range(3)
    ]
    await asyncio.to_thread(explaining.wait, 30)
    for _ in range(3):
        # More rows than are answered on the event loop, so that they need a thread.
        assert (await served.predict(cancer().values(500))).status_code == 200
    finish.set()
    assert [response.status_code for response in await asyncio.gather(*asked)] == [200] * 3
