"""Every estimator of the allow-list trains, tunes, explains and is the same when trained again; what is known about
each is the table in docs/training.md, which this test compares, or writes with MODELLOOP_WRITE_TABLE=1."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import all_estimators

from modelkit.artifact.native import loads_native
from modelkit.contract import files
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS, LEFT_OUT, REGRESSORS
from modelkit.evaluate.shapley import explain_rows
from tests.unit.estimators.estimator_runs import Run, read_source, run_estimator, write_sources

PAGE = Path(__file__).resolve().parents[3] / "docs" / "training.md"
BEGIN, END = "<!-- estimators: begin (written by tests/unit/estimators) -->", "<!-- estimators: end -->"
WRITE = "MODELLOOP_WRITE_TABLE"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimators")
    write_sources(folder)
    return folder


@pytest.fixture(scope="module")
def run_of(root: Path) -> Callable[[str], Run]:
    """The run of an estimator, made once."""
    runs: dict[str, Run] = {}

    def find(name: str) -> Run:
        if name not in runs:
            runs[name] = run_estimator(name, root)
        return runs[name]

    return find


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_trained_again_it_is_the_same_byte_for_byte(name: str, root: Path, run_of: Callable[[str], Run]) -> None:
    first, second = run_of(name), run_estimator(name, root, 2)
    assert first.files.keys() == second.files.keys()
    assert [file for file, data in first.files.items() if data != second.files[file]] == []
    assert first.result.data_digest == second.result.data_digest


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_it_trains_and_tunes_and_says_what_matters(name: str, run_of: Callable[[str], Run]) -> None:
    run = run_of(name)
    metrics, importance = json.loads(run.files[files.METRICS]), json.loads(run.files[files.IMPORTANCE])
    tried = [candidate["params"][run.parameter] for candidate in metrics["candidates"]]
    assert len(tried) == len({str(value) for value in tried}) == 2
    assert len(importance["features"]) == (4 if name in CLASSIFIERS else 10)
    assert any(feature["mean"] != 0 for feature in importance["features"])


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_what_is_not_exported_is_served_from_skops_and_says_so(name: str, run_of: Callable[[str], Run]) -> None:
    run = run_of(name)
    if run.exports:
        assert run.result.format_message is None
    else:
        assert run.result.format == "Skops"
        assert f"no ONNX for {name}" in str(run.result.format_message)
        assert "served from model.skops" in str(run.result.format_message)
    samples = json.loads(run.files[files.SAMPLES])
    native = loads_native(run.files[files.MODEL_SKOPS])
    rows = np.array([list(row.values()) for row in samples["rows"]], dtype=np.float64)
    if name in CLASSIFIERS:
        assert native.predict(rows).tolist() == samples["predictions"]
    else:
        np.testing.assert_allclose(native.predict(rows), samples["predictions"], rtol=1e-3)


def test_everything_that_scikit_learn_has_for_one_target_is_let_in_or_left_out_for_a_reason() -> None:
    # Not for one target, or no estimator of its own: wrappers of many targets and classes, thresholds, dummies.
    other = {
        *("CCA", "ClassifierChain", "DummyClassifier", "DummyRegressor", "FixedThresholdClassifier"),
        *("MultiOutputClassifier", "MultiOutputRegressor", "MultiTaskElasticNet", "MultiTaskElasticNetCV"),
        *("MultiTaskLasso", "MultiTaskLassoCV", "OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier"),
        *("PLSCanonical", "RegressorChain", "TransformedTargetRegressor", "TunedThresholdClassifierCV"),
    }
    for kind, ours in (("classifier", CLASSIFIERS), ("regressor", REGRESSORS)):
        found = {name for name, _ in all_estimators(type_filter=kind)} - other
        assert found - set(LEFT_OUT) == set(ours)


def test_the_table_in_the_documentation_is_what_was_found(root: Path, run_of: Callable[[str], Run]) -> None:
    table = "\n".join(_table([run_of(name) for name in sorted(ESTIMATORS)], root))
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    committed, after = rest.split(END)
    if os.environ.get(WRITE):
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
        return
    assert committed.strip() == table, f"docs/training.md is stale: run this test with {WRITE}=1 and commit the page"


def _table(runs: list[Run], root: Path) -> Iterator[str]:
    yield "| estimator | trains | ONNX | tunes | explains: importance, SHAP |"
    yield "|---|---|---|---|---|"
    for task, ours in (("Classification", CLASSIFIERS), ("Regression", REGRESSORS)):
        source = read_source(root, task).drop(columns="target").to_numpy(dtype=np.float64)
        for run in (run for run in runs if run.name in ours):
            served = "yes" if run.exports else "no: served from skops"
            yield f"| `{run.name}` | yes | {served} | `{run.parameter}` | yes, {_shap_kind(run, source)} |"
    yield ""
    yield "Left out:"
    yield ""
    for name, why in sorted(LEFT_OUT.items()):
        yield f"- `{name}`: {why}."


def _shap_kind(run: Run, rows: np.ndarray) -> str:
    pipeline = loads_native(run.files[files.MODEL_SKOPS])
    found = explain_rows(pipeline, rows[:2], rows[2:8], is_classifier=run.name in CLASSIFIERS, seed=0)
    assert np.all(np.isfinite(found.values))
    return found.method.lower()
