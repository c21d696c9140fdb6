"""The champion and feedback: the same rows for both models, and recent rows as the judge."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from modelkit.contract.config import CandidateConfig, ComparisonConfig, FeedbackConfig, VersionRef
from modelkit.contract.files import FEEDBACK_STREAM, REQUESTS_STREAM, capture_hour
from modelkit.errors import RefusedError
from modelkit.store.segments import SegmentNames, compress_segment

if TYPE_CHECKING:
    from .conftest import Trainer

CANCER = load_breast_cancer(as_frame=True).frame
NAMES = tuple(f"{kind} {what}" for kind in ("mean", "worst") for what in ("radius", "texture", "area"))
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
WINDOW = FeedbackConfig(deployment="cancer", since=NOW - timedelta(hours=1), until=NOW + timedelta(hours=1))
AGAINST = {"comparisons": (ComparisonConfig(metric="f1"), ComparisonConfig(metric="log_loss", confidence=0.9))}
SOURCE = "builtin://breast_cancer?rows=0:300"

Capture = Callable[..., None]


@pytest.fixture
def capture(trainer: "Trainer") -> Capture:
    """Write captured rows of the data set from row 300 on, the first `labelled` of them with feedback."""

    def write(
        rows: int,
        labelled: int,
        scale: float = 1.0,
        relabel: Callable[[Any], Any] = int,
        hidden: Callable[[int], list[str]] = lambda _: [],
    ) -> None:
        requests, feedback = [], []
        for position in range(rows):
            row = CANCER.iloc[300 + position]
            features = {name: float(row[name]) * (scale if "radius" in name or "area" in name else 1) for name in NAMES}
            key = {"id": f"r{position}", "row": 0, "time": NOW.isoformat()}
            requests.append(
                key
                | {"digest": "sha256:0", "version": 1, "features": features}
                | {"prediction": 1, "probabilities": [0.5, 0.5]}
                | ({"redacted": hidden(position)} if hidden(position) else {})
            )
            if position < labelled:
                feedback.append(key | {"label": relabel(row["target"]), "received": NOW.isoformat()})
        for stream, records in ((REQUESTS_STREAM, requests), (FEEDBACK_STREAM, feedback)):
            path = SegmentNames("default", "cancer", stream, "pod", NOW).next_path(capture_hour(NOW))
            lines = [json.dumps(record).encode() + b"\n" for record in records]
            trainer.store.write(path, compress_segment(lines))

    return write


@pytest.fixture
def champion(trainer: "Trainer") -> VersionRef:
    config = trainer.config(SOURCE, features=NAMES)
    return trainer.ref(config, trainer.run(config))


def test_a_model_does_not_differ_from_itself_as_champion(trainer: "Trainer", champion: VersionRef) -> None:
    result = trainer.run(trainer.config(SOURCE, features=NAMES, number=2, champion=champion, **AGAINST))
    assert result.champion is not None
    assert result.champion.number == 1
    assert result.champion.metrics == pytest.approx(result.metrics)
    for difference in result.champion.differences.values():
        assert (difference.low, difference.value, difference.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert set(result.champion.differences) == {"f1", "log_loss"}


def test_a_worse_model_loses_against_the_champion(trainer: "Trainer", champion: VersionRef) -> None:
    worse = (CandidateConfig(estimator="SGDClassifier", params={"alpha": 100.0}),)
    result = trainer.run(
        trainer.config(SOURCE, features=NAMES, number=2, champion=champion, **AGAINST, candidates=worse)
    )
    assert result.champion is not None
    difference = result.champion.differences["f1"]
    assert difference.value == pytest.approx(result.metrics["f1"] - result.champion.metrics["f1"])
    assert difference.low <= difference.value <= difference.high
    assert difference.high < 0


def test_a_champion_that_is_served_natively_is_measured_too(trainer: "Trainer", candidates: Any) -> None:
    config = trainer.config(SOURCE, features=NAMES, candidates=candidates("LinearDiscriminantAnalysis"))
    first = trainer.run(config)
    second = trainer.run(trainer.config(SOURCE, features=NAMES, number=2, champion=trainer.ref(config, first)))
    assert first.format == "Skops"
    assert second.champion is not None


def _damage_file(trainer: "Trainer", champion: VersionRef) -> VersionRef:
    trainer.store.write(f"{champion.path}/model.onnx", b"other")
    return champion


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda _, ref: replace(ref, digest="sha256:" + "0" * 64), "expected sha256:0000"),
        (lambda _, ref: replace(ref, path="models/default/cancer/none"), "no complete version"),
        (_damage_file, "model.onnx"),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_told_and_the_run_goes_on(
    trainer: "Trainer", champion: VersionRef, change: Callable[..., VersionRef], text: str
) -> None:
    result = trainer.run(
        trainer.config(SOURCE, features=NAMES, number=2, champion=change(trainer, champion), **AGAINST)
    )
    assert result.outcome == "Succeeded"
    assert result.champion is None
    assert text in (result.champion_message or "")


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"size": None}, "needs the column 'size'"),
        ({"size": ["x", "y"] * 50}, "needs numeric values in column 'size'; they are categorical now"),
        ({"size": [*range(99), None]}, "no missing values in column 'size'"),
        ({"target": ["c", "d"] * 50}, "knows none of this run's classes"),
    ],
)
def test_a_champion_that_does_not_fit_the_data_is_told(
    trainer: "Trainer", tmp_path: Path, columns: dict[str, Any], text: str
) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=100), "weight": rng.normal(size=100), "target": ["a", "b"] * 50})
    frame.to_csv(tmp_path / "one.csv", index=False)
    frame.assign(**columns).dropna(axis=1, how="all").to_csv(tmp_path / "two.csv", index=False)
    first = trainer.config(f"file://{tmp_path}/one.csv")
    champion = trainer.ref(first, trainer.run(first))
    # The seed that puts the missing value into the test part.
    for seed in range(30):
        config = trainer.config(f"file://{tmp_path}/two.csv", number=2 + seed, champion=champion, seed=seed)
        result = trainer.run(config)
        if result.champion_message:
            break
    assert text in (result.champion_message or "")


def test_a_champion_of_another_task_is_told(trainer: "Trainer", champion: VersionRef, candidates: Any) -> None:
    config = trainer.config(SOURCE, features=NAMES, number=2, champion=champion, candidates=candidates("Ridge"))
    assert "is for Classification" in (trainer.run(config).champion_message or "")


def test_recent_rows_are_learnt_from_and_judge_both_versions(
    trainer: "Trainer", champion: VersionRef, capture: Capture
) -> None:
    capture(rows=200, labelled=150, scale=1.8)
    config = trainer.config(SOURCE, features=NAMES, number=2, champion=champion, **AGAINST, feedback=WINDOW)
    result = trainer.run(config)
    assert result.evaluated_on == "Recent"
    assert (result.train_rows, result.test_rows, result.feedback_rows) == (240 + 90, 60, 150)
    assert result.champion is not None
    assert result.champion.metrics["f1"] < result.metrics["f1"]
    assert result.champion.differences["log_loss"].low > 0
    metrics = json.loads(trainer.file(config, "metrics.json"))
    assert metrics["source_test"]["f1"] > 0.8
    profile = json.loads(trainer.file(config, "profile.json"))
    assert profile["rows"] == 150
    assert "held-out labelled requests" in trainer.file(config, "card.md").decode()


def test_a_window_forgets_the_source(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=150, labelled=150)
    config = trainer.config(SOURCE, features=NAMES, feedback=replace(WINDOW, policy="Window"))
    result = trainer.run(config)
    assert (result.evaluated_on, result.train_rows, result.test_rows) == ("Recent", 90, 60)


def test_few_recent_rows_are_learnt_from_but_do_not_judge(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=60, labelled=40)
    config = trainer.config(SOURCE, features=NAMES, feedback=WINDOW)
    result = trainer.run(config)
    assert (result.evaluated_on, result.train_rows, result.test_rows) == ("Test", 280, 60)
    assert result.feedback_rows == 40
    assert any("too few to be judged on (50" in n for n in json.loads(trainer.file(config, "metrics.json"))["notes"])


def test_a_window_with_few_rows_is_refused(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=60, labelled=40)
    with pytest.raises(RefusedError, match=r"40 labelled captured rows of cancer.*needs 50"):
        trainer.run(trainer.config(SOURCE, features=NAMES, feedback=replace(WINDOW, policy="Window")))


def test_without_any_feedback_the_source_alone_is_learnt_from(trainer: "Trainer") -> None:
    result = trainer.run(trainer.config(SOURCE, features=NAMES, feedback=WINDOW))
    assert (result.evaluated_on, result.train_rows, result.feedback_rows) == ("Test", 240, 0)


def test_rows_that_hide_a_column_are_not_learnt_from_and_the_run_says_so(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=100, labelled=100, hidden=lambda position: ["mean radius"] if position < 30 else [])
    config = trainer.config(SOURCE, features=NAMES, feedback=WINDOW)
    result = trainer.run(config)
    assert (result.evaluated_on, result.feedback_rows, result.test_rows) == ("Recent", 100, 28)
    notes = json.loads(trainer.file(config, "metrics.json"))["notes"]
    assert any("30 captured rows were left out because capture.drop or capture.hash hides" in note for note in notes)


def test_a_window_of_rows_that_hide_a_column_is_refused(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=100, labelled=100, hidden=lambda _: ["mean radius"])
    with pytest.raises(RefusedError, match=r"none of the 100 labelled .*hides 'mean radius'") as raised:
        trainer.run(trainer.config(SOURCE, features=NAMES, feedback=replace(WINDOW, policy="Window")))
    assert raised.value.reason == "FeedbackRedacted"


def test_a_hidden_column_that_is_not_learnt_from_changes_nothing(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=100, labelled=100, hidden=lambda _: ["customer"])
    result = trainer.run(trainer.config(SOURCE, features=NAMES, feedback=WINDOW))
    assert (result.evaluated_on, result.test_rows) == ("Recent", 40)


@pytest.mark.parametrize("relabel", [str, float, bool, int])
def test_labels_are_understood_however_they_were_sent(
    trainer: "Trainer", capture: Capture, relabel: Callable[[Any], Any]
) -> None:
    capture(rows=100, labelled=100, relabel=lambda label: relabel(int(label)))
    assert trainer.run(trainer.config(SOURCE, features=NAMES, feedback=WINDOW)).evaluated_on == "Recent"


def test_labels_that_the_source_does_not_have_are_left_out_and_counted(trainer: "Trainer", capture: Capture) -> None:
    capture(rows=100, labelled=100, relabel=lambda label: 7 if label else 0)
    config = trainer.config(SOURCE, features=NAMES, feedback=WINDOW)
    result = trainer.run(config)
    notes = json.loads(trainer.file(config, "metrics.json"))["notes"]
    assert any("have a label that the training data doesn't have" in note for note in notes)
    assert result.feedback_rows == 100
    assert result.evaluated_on == "Test"


def test_a_text_target_takes_feedback(trainer: "Trainer", capture: Capture, tmp_path: Path) -> None:
    labels = np.where(CANCER["target"] == 1, "benign", "malignant")
    CANCER.assign(target=labels).iloc[:300].to_csv(tmp_path / "t.csv", index=False)
    capture(rows=120, labelled=120, relabel=lambda label: "benign" if label else "malignant")
    uri = f"file://{tmp_path}/t.csv"
    config = trainer.config(uri, features=NAMES, feedback=WINDOW)
    result = trainer.run(config)
    assert result.evaluated_on == "Recent"
    assert json.loads(trainer.file(config, "signature.json"))["classes"] == ["benign", "malignant"]
