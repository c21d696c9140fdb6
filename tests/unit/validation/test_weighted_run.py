"""Weight, group and time columns through a whole run, against a script of scikit-learn's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.recipe import SplitConfig, ValidationConfig
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.run import run_training

ROWS = 300
FEATURES = ["a", "b"]


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, ROWS))
    return pd.DataFrame(
        {
            "a": a,
            "b": b,
            "weight": rng.uniform(0, 4, ROWS).round(3),
            "customer": rng.integers(0, 60, ROWS),
            "day": rng.permutation(ROWS),
            "y": (a + rng.normal(0, 1, ROWS) > 0).astype(int),
        }
    )


def train(folder: Path, estimators: tuple[str, ...] = ("LogisticRegression",), **roles: Any) -> TrainingResult:
    table().to_csv(folder / "t.csv", index=False)
    split = roles.pop("split", None)
    config = TrainerConfig(
        namespace="n",
        name="m",
        number=1,
        version="1-a",
        trigger="Created",
        store=StoreConfig(uri=f"file://{folder}/store"),
        data=DataConfig(uri=f"file://{folder}/t.csv", display_uri="t", target="y", features=tuple(FEATURES), **roles),
        candidates=tuple(CandidateConfig(estimator=name) for name in estimators),
        folds=3,
        seed=7,
        split=split,
        validation=ValidationConfig(),
    )
    return run_training(config, {}, Progress(), 1)


def _metrics(folder: Path, result: TrainingResult) -> dict[str, Any]:
    store = Store.open(StoreConfig(uri=f"file://{folder}/store"), {})
    found: dict[str, Any] = json.loads(store.read(f"{result.path}/metrics.json"))
    return found


def test_a_weighted_run_is_a_weighted_script(tmp_path: Path) -> None:
    result = train(tmp_path, ("LogisticRegression", "KNeighborsClassifier"), weight="weight")
    frame = table()
    train_rows, test_rows = train_test_split(np.arange(ROWS), test_size=0.2, random_state=7, stratify=frame["y"])
    x, y, w = frame[FEATURES].to_numpy(), frame["y"].to_numpy(), frame["weight"].to_numpy()

    def fitted(rows: Any) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(random_state=7)).fit(
            x[rows], y[rows], logisticregression__sample_weight=w[rows]
        )

    model = fitted(train_rows)
    said, shares = model.predict(x[test_rows]), model.predict_proba(x[test_rows])[:, 1]
    of_test = {"sample_weight": w[test_rows]}
    assert result.metrics["accuracy"] == pytest.approx(accuracy_score(y[test_rows], said, **of_test))
    assert result.metrics["roc_auc"] == pytest.approx(roc_auc_score(y[test_rows], shares, **of_test))
    prior = np.average(y[train_rows], weights=w[train_rows])
    assert result.trivial["log_loss"] == pytest.approx(log_loss(y[test_rows], np.full(len(said), prior), **of_test))
    written = _metrics(tmp_path, result)
    low, high = written["intervals"]["bounds"]["accuracy"]
    assert low < result.metrics["accuracy"] < high
    assert "candidate 2 (KNeighborsClassifier) takes no weights: to it every row counted the same" in written["notes"]
    assert not any("candidate 1" in note for note in written["notes"])
    logistic = next(entry for entry in written["candidates"] if entry["estimator"] == "LogisticRegression")
    assert len(logistic["folds"]) == 3
    assert written["metric"] == "f1"
    folds = StratifiedKFold(3, shuffle=True, random_state=7).split(train_rows, y[train_rows])
    from sklearn.metrics import f1_score

    expected = []
    for learnt, judged in folds:
        rows = train_rows[judged]
        expected.append(f1_score(y[rows], fitted(train_rows[learnt]).predict(x[rows]), sample_weight=w[rows]))
    assert logistic["folds"] == pytest.approx(expected)


@pytest.mark.parametrize("roles", [{"group": "customer"}, {"time": "day"}, {"time": "day", "group": "customer"}])
def test_a_run_by_group_or_by_time_judges_on_other_groups_or_newer_rows(tmp_path: Path, roles: dict[str, str]) -> None:
    result = train(tmp_path, split=SplitConfig(), **roles)
    assert result.test_rows == pytest.approx(60, abs=8)
    frame = table()
    if "time" in roles:
        order = np.argsort(frame["day"].to_numpy())
        model = make_pipeline(StandardScaler(), LogisticRegression(random_state=7))
        model.fit(frame[FEATURES].to_numpy()[order[:240]], frame["y"].to_numpy()[order[:240]])
        said = model.predict(frame[FEATURES].to_numpy()[order[240:]])
        assert result.metrics["accuracy"] == pytest.approx(accuracy_score(frame["y"].to_numpy()[order[240:]], said))


def test_the_same_rows_give_the_same_digest_and_other_weights_another(tmp_path: Path) -> None:
    digests = []
    for index, roles in enumerate([{"weight": "weight"}, {"weight": "weight"}, {}]):
        folder = tmp_path / str(index)
        folder.mkdir()
        digests.append(train(folder, **roles).data_digest)
    assert digests[0] == digests[1] != digests[2]
