"""explanation.json and the learning curve of whole runs."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import CandidateConfig, DataConfig
from modelkit.contract.recipe import ExplainConfig, SelectionConfig

if TYPE_CHECKING:
    from .conftest import Trainer

EVERYTHING = ExplainConfig(shap_rows=30, partial_dependence=2)


def _json(trainer: "Trainer", config: Any, name: str) -> Any:
    return json.loads(trainer.file(config, name))


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """Numbers, categories, missing values, a group and a time."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=300), "colour": rng.choice(["red", "green", "blue"], 300)})
    frame["noise"] = rng.normal(size=300)
    frame["target"] = np.where(frame["size"] + 2.0 * (frame["colour"] == "red") + 0.3 * frame["noise"] > 0.5, "b", "a")
    frame.loc[::17, "size"] = np.nan
    frame.loc[::19, "colour"] = None
    frame["customer"] = rng.integers(0, 30, 300)
    frame["when"] = pd.date_range("2026-01-01", periods=300, freq="h").astype(str)
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    return f"file://{tmp_path}/mixed.csv"


def test_numbers_and_categories_are_explained(trainer: "Trainer", mixed: str) -> None:
    candidate = CandidateConfig(estimator="RandomForestClassifier", params={"n_estimators": 10})
    features = ("size", "colour", "noise")
    config = trainer.config(mixed, features=features, candidates=(candidate,), explain=EVERYTHING)
    trainer.run(config)
    found = _json(trainer, config, "explanation.json")
    assert found["classes"] == ["a", "b"]
    shown = {entry["name"]: entry for entry in found["partial_dependence"]}
    assert set(shown) == {"size", "colour"}
    by_colour = dict(zip(shown["colour"]["grid"], shown["colour"]["values"], strict=True))
    assert set(by_colour) == {"red", "green", "blue"}
    assert by_colour["red"][0] > by_colour["green"][0]
    assert shown["size"]["values"][-1][0] > shown["size"]["values"][0][0]
    shap = found["shap"]
    assert (shap["method"], shap["unit"], shap["rows"]) == ("Tree", "Probability", 30)
    assert {entry["name"] for entry in shap["features"][:2]} == {"size", "colour"}
    assert "size" in trainer.file(config, "card.html").decode()


def test_without_a_request_nothing_is_computed(trainer: "Trainer") -> None:
    config = trainer.config("builtin://iris")
    trainer.run(config)
    assert _json(trainer, config, "explanation.json") == {"classes": [0, 1, 2], "partial_dependence": [], "shap": None}
    assert "learning_curve" not in _json(trainer, config, "metrics.json")


@pytest.mark.parametrize("columns", [{}, {"group": "customer"}, {"time": "when"}])
def test_a_learning_curve_grows_within_the_training_part(
    trainer: "Trainer", mixed: str, columns: dict[str, str]
) -> None:
    data = DataConfig(uri=mixed, display_uri=mixed, target="target", features=("size", "noise"), **columns)
    config = dataclasses.replace(trainer.config(explain=ExplainConfig(partial_dependence=0)), data=data)
    result = trainer.run(config)
    points = _json(trainer, config, "metrics.json")["learning_curve"]
    rows = [point["rows"] for point in points]
    assert rows == sorted(rows)
    assert len(rows) >= 4
    assert rows[-1] < result.train_rows
    assert all(0 <= point[name] <= 1 for point in points for name in ("training", "validation"))
    assert "## Learning curve" in trainer.file(config, "card.md").decode()


def test_of_few_rows_there_is_no_learning_curve(trainer: "Trainer") -> None:
    config = trainer.config("builtin://iris?rows=20:80", explain=ExplainConfig(partial_dependence=0))
    trainer.run(config)
    metrics = _json(trainer, config, "metrics.json")
    assert metrics["learning_curve"] == []
    assert "48 rows, fewer than 50" in metrics["learning_curve_message"]


def test_selected_features_are_told_as_columns(trainer: "Trainer") -> None:
    config = trainer.config(selection=SelectionConfig(method="AnovaF", features=4))
    trainer.run(config)
    selected = _json(trainer, config, "metrics.json")["selected_features"]
    assert (selected["kept"], selected["features"], len(selected["columns"])) == (4, 30, 4)
    assert "worst perimeter" in selected["columns"]
    assert "4 of 30 preprocessed features" in trainer.file(config, "card.md").decode()


def test_by_time_the_curve_grows_into_the_past(trainer: "Trainer", tmp_path: Path) -> None:
    """The newest rows follow another rule than the old ones: few of them are the best teachers."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=400), "when": pd.date_range("2026-01-01", periods=400).astype(str)})
    sign = np.where(np.arange(400) < 220, -1, 1)
    frame["target"] = np.where(sign * frame["size"] > 0, "b", "a")
    frame.to_csv(tmp_path / "turned.csv", index=False)
    uri = f"file://{tmp_path}/turned.csv"
    data = DataConfig(uri=uri, display_uri=uri, target="target", features=("size",), time="when")
    config = dataclasses.replace(trainer.config(explain=ExplainConfig(partial_dependence=0)), data=data)
    trainer.run(config)
    points = _json(trainer, config, "metrics.json")["learning_curve"]
    assert points[0]["validation"] > 0.8
    assert points[-1]["validation"] < 0.5
