"""A thousand windows of an unchanged world, through all checks and the decision: how often is it all for nothing?

Stated levels, per window: Drift and PredictionDrift at most 1 %, DataQuality at most 1 %, the checks of quality at most
5 % with no allowance and far fewer with the usual one; Fairness and Service 1 % at their limits. A retrain needs two
breached windows of three, so it is rarer still.
"""

from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from modelkit.contract.codec import to_plain
from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.monitoring import (
    CalibrationConfig,
    EstimatedQualityConfig,
    FairnessConfig,
    MonitorConfig,
)
from modelkit.data.calibration import build_calibration
from modelkit.data.profile import build_profile
from modelkit.evaluate.answers import Answers
from modelkit.evaluate.metrics import compute_metrics
from modelkit.monitor.reference import Reference, parse_reference
from modelloop.api.monitor import Window
from tests.unit.monitor.rows import examine_table
from tests.unit.operator_tests.monitor_world import MonitorWorld
from tests.unit.operator_tests.operator_states import NOW, digest_of, monitor_spec

WINDOWS = 1000
CLASSES = ["no", "yes"]
CONFIG = MonitorConfig(
    namespace="team",
    name="drift",
    deployment="cancer",
    version=VersionRef(number=1, path="models/x", digest=digest_of(1)),
    version_since=NOW - timedelta(days=400),
    store=StoreConfig(uri="file:///x"),
    window_seconds=3600,
    estimated_quality=EstimatedQualityConfig(),
    calibration=CalibrationConfig(),
    fairness=FairnessConfig(columns=("sex",)),
)
MOST = {"DataQuality": 0.01, "Drift": 0.01, "PredictionDrift": 0.01, "Quality": 0.05, "EstimatedQuality": 0.05}
MOST |= {"Calibration": 0.05, "Fairness": 0.01}
"""Share of windows that each check may alarm in."""


def draw(generator: np.random.Generator, rows: int) -> tuple[pa.Table, pa.Table]:
    """Rows of numbers, gaps and categories, a good model's answers, and what is true."""
    numbers = generator.normal(size=(rows, 6))
    numbers[:, 1] = generator.lognormal(size=rows)
    gaps = generator.random(rows) < 0.1
    score = 1.5 * numbers[:, 0] + numbers[:, 2] - 0.5
    probability = 1 / (1 + np.exp(-score))
    columns = {f"x{index}": pa.array(numbers[:, index]) for index in range(6)}
    columns["x3"] = pa.array(numbers[:, 3], mask=gaps)
    columns["city"] = pa.array(generator.choice(["Ulm", "Bonn", "Kiel", "Jena"], rows, p=[0.4, 0.3, 0.2, 0.1]))
    columns["sex"] = pa.array(generator.choice(["f", "m"], rows))
    answers = np.array(CLASSES, dtype=object)
    meta = pa.table(
        {
            "prediction": pa.array(answers[(probability > 0.5).astype(int)]),
            "probabilities": pa.array(np.stack([1 - probability, probability], axis=1).tolist()),
            "redacted": pa.nulls(rows, pa.list_(pa.string())),
            "label": pa.array(answers[(generator.random(rows) < probability).astype(int)]),
        }
    )
    return pa.table(columns), meta


def make_reference(rows: int = 1500, test_rows: int = 500) -> Reference:
    generator = np.random.default_rng(1)
    features, _ = draw(generator, rows)
    _, test = draw(generator, test_rows)
    probabilities = np.array(test["probabilities"].to_pylist())
    positions = {name: [CLASSES.index(label) for label in test[name].to_pylist()] for name in ("label", "prediction")}
    truth, predicted = np.array(positions["label"]), np.array(positions["prediction"])
    kinds = {name: "categorical" if name in ("city", "sex") else "numeric" for name in features.column_names}
    columns = {name: features[name].to_pandas().to_numpy() for name in features.column_names}
    labels = np.array(test["prediction"].to_pylist(), dtype=object)
    profile = build_profile(columns, kinds, labels, probabilities, "Classification", CLASSES)
    profile["calibration"] = build_calibration(truth, predicted, probabilities, [0, 1])
    metrics = compute_metrics(Answers("Classification", truth, predicted, probabilities, (0, 1)))
    signature = {"task": "Classification", "classes": CLASSES, "inputs": [{"name": name} for name in kinds]}
    return parse_reference(profile, {"metric": "accuracy", "metrics": metrics, "test_rows": test_rows}, signature)


REFERENCE = make_reference()


def look(world: MonitorWorld, generator: np.random.Generator, rows: int, end: datetime) -> Window:
    features, meta = draw(generator, rows)
    result = examine_table(CONFIG, REFERENCE, features, meta, (end - timedelta(hours=1), end)).result
    window = Window.model_validate(to_plain(result))
    world.look(window)
    if world.status.retrain is not None:
        world.answer()
    return window


def test_a_thousand_windows_of_an_unchanged_world_wake_nobody_more_often_than_stated() -> None:
    world = MonitorWorld(spec=monitor_spec(retrain={"cooldown": "1h", "requireNewLabels": False, "giveUpAfter": 100}))
    generator, breached = np.random.default_rng(7), Counter[str]()
    for number in range(WINDOWS):
        window = look(world, generator, 300, NOW + timedelta(hours=number))
        assert {check.state for check in window.checks} <= {"OK", "Breached"}
        breached.update(check.name for check in window.checks if check.state == "Breached")
    # Three standard deviations above the level.
    allowed = {name: WINDOWS * share + 3 * (WINDOWS * share) ** 0.5 for name, share in MOST.items()}
    assert {name: count for name, count in breached.items() if count > allowed[name]} == {}
    assert world.status.retrains <= 3


@pytest.mark.parametrize("rows", [1, 29])
def test_a_thousand_windows_of_too_few_rows_say_nothing_and_decide_nothing(rows: int) -> None:
    world = MonitorWorld()
    generator = np.random.default_rng(rows)
    for number in range(WINDOWS // 2):
        window = look(world, generator, rows, NOW + timedelta(hours=number))
        assert {check.state for check in window.checks} == {"Unknown"}
    assert world.status.retrains == 0
