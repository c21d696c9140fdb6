"""Slices in a whole run: what the operator is told, what the version keeps, what is refused at once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from modelkit.contract.config import ComparisonConfig
from modelkit.contract.recipe import SliceConfig
from modelkit.errors import RefusedError

if TYPE_CHECKING:
    from .conftest import Trainer

SLICES = (
    SliceConfig(name="north", column="region", values=("north",), metrics=("f1",)),
    SliceConfig(name="small", column="size", maximum=0.0, metrics=("f1",)),
    SliceConfig(name="nobody", column="region", values=("east",), metrics=("f1",)),
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=400), "weight": rng.normal(size=400)})
    frame["region"] = rng.choice(["north", "south"], 400)
    noise = np.where(frame["region"] == "north", 2.0, 0.1)
    frame["target"] = np.where(frame["size"] + noise * rng.normal(size=400) > 0, "yes", "no")
    frame.to_csv(tmp_path / "data.csv", index=False)
    return f"file://{tmp_path}/data.csv"


def test_slices_are_told_to_the_operator_and_kept_with_the_version(trainer: "Trainer", source: str) -> None:
    features = ("size", "weight")  # the region isn't one of them
    first = trainer.config(source, features=features, slices=SLICES)
    result = trainer.run(first)
    assert [(found.name, set(found.metrics)) for found in result.slices] == [
        ("north", {"f1"}),
        ("small", {"f1"}),
        ("nobody", set()),
    ]
    assert result.slices[0].metrics["f1"] < result.metrics["f1"]
    metrics = json.loads(trainer.file(first, "metrics.json"))
    north = metrics["slices"][0]
    assert (north["name"], north["column"], north["rows"]) == ("north", "region", result.slices[0].rows)
    assert set(north["metrics"]) == set(metrics["metrics"])
    assert any("slice 'nobody' has 0 evaluation rows, fewer than 20" in note for note in metrics["notes"])
    card = trainer.file(first, "card.md").decode()
    assert "## Slices" in card
    assert "| north |" in card

    comparisons = (ComparisonConfig(metric="f1"), ComparisonConfig(metric="f1", slice="north", confidence=0.8))
    second = trainer.config(
        source,
        features=features,
        slices=SLICES,
        comparisons=comparisons,
        champion=trainer.ref(first, result),
        number=2,
    )
    again = trainer.run(second)
    assert again.champion is not None
    assert set(again.champion.differences) == {"f1"}
    assert again.slices[0].champion == pytest.approx(again.slices[0].metrics)
    difference = again.slices[0].differences["f1"]
    assert (difference.low, difference.value, difference.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert again.slices[1].differences == {}


def test_a_slice_of_no_column_is_refused_before_anything_is_learnt(trainer: "Trainer", source: str) -> None:
    with pytest.raises(RefusedError, match="slice 'north' is of the column 'area'") as caught:
        trainer.run(trainer.config(source, slices=(SliceConfig(name="north", column="area", values=("x",)),)))
    assert caught.value.reason == "SliceColumnNotFound"
