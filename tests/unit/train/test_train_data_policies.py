"""Which rows a run learns from when captured rows come to those of its source."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import CandidateConfig, DataConfig, FeedbackConfig, StoreConfig, TrainerConfig
from modelkit.data.dataset import build_dataset
from modelkit.train.feedback import select_usable
from modelkit.train.parts import Parts, divide

SOURCE = 100
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def split(policy: str, captured: int, time: str | None = None) -> Parts:
    """Source rows are numbered from 0 on, captured ones from 1000 on; `t` counts down."""
    data = DataConfig(uri="builtin://none", display_uri="none", target="y", features=("x",), time=time)
    frame = pd.DataFrame({"x": np.arange(float(SOURCE)), "y": [0, 1] * 50, "t": np.arange(SOURCE, 0.0, -1)})
    dataset = build_dataset(frame, data, "Classification")
    rows = pd.DataFrame({"x": 1000.0 + np.arange(captured)})
    feedback = select_usable(rows, pd.Series([0, 1] * captured)[:captured], dataset)
    config = TrainerConfig(
        namespace="n",
        name="m",
        number=2,
        version="2",
        trigger="Monitor",
        store=StoreConfig(uri="file:///nowhere"),
        data=data,
        candidates=(CandidateConfig(estimator="LogisticRegression"),),
        feedback=FeedbackConfig(deployment="d", since=NOW, until=NOW, policy=policy),
    )
    return divide(dataset, feedback, config)


def learnt(parts: Parts) -> tuple[list[float], int]:
    """The source's rows that are learnt from, and how many captured ones are."""
    values = np.asarray(parts.train.rows, dtype=float)[:, 0]
    return sorted(values[values < SOURCE].tolist()), int(np.sum(values >= 1000))


def test_replace_keeps_the_size_and_lets_the_oldest_rows_of_the_source_go() -> None:
    whole, _ = learnt(split("Append", 50))
    left, new = learnt(split("Replace", 50))
    assert (len(whole), new) == (80, 30)
    assert left == whole[30:]


def test_with_a_time_column_the_oldest_rows_are_those_of_the_earliest_times() -> None:
    whole, _ = learnt(split("Append", 50, time="t"))
    left, new = learnt(split("Replace", 50, time="t"))
    assert left == whole[:-new]


@pytest.mark.parametrize("captured", [140, 400])
def test_replace_with_more_captured_rows_than_the_source_has_is_window(captured: int) -> None:
    assert learnt(split("Replace", captured)) == learnt(split("Window", captured)) == ([], captured * 6 // 10)


def test_captured_rows_that_are_too_few_to_be_judged_on_replace_rows_too() -> None:
    left, new = learnt(split("Replace", 12))
    assert (len(left), new) == (68, 12)
