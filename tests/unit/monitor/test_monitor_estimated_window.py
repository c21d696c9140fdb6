"""Estimated quality and calibration in a window's verdicts: listed where asked for, with their evidence."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from modelkit.contract.monitoring import CalibrationConfig, EstimatedQualityConfig
from modelkit.contract.result import CHECKS
from modelkit.evaluate.answers import Answers
from modelkit.monitor.labels import Labelled
from modelkit.monitor.reference import read_reference
from modelkit.monitor.summary import empty_summary
from modelkit.monitor.window import Examination, Gathered, examine_window
from tests.unit.monitor.worlds import (
    classification,
    draw_classes,
    draw_numbers,
    regression,
    summarise_classes,
    summarise_numbers,
)

if TYPE_CHECKING:
    from modelkit.contract.monitoring import MonitorConfig
    from modelkit.monitor.reference import Reference
    from tests.unit.monitor.conftest import World

ASKED = {"estimated_quality": EstimatedQualityConfig(), "calibration": CalibrationConfig()}


def examine(config: "MonitorConfig", reference: "Reference", gathered: Gathered) -> Examination:
    end = config.version_since + timedelta(hours=1)
    return examine_window(config, reference, gathered, (config.version_since, end))


def states(examination: Examination) -> dict[str, str]:
    return {check.name: check.state for check in examination.result.checks}


def test_both_checks_come_with_their_evidence_in_the_order_of_all_checks(world: "World") -> None:
    generator = np.random.default_rng(0)
    reference = classification(draw_classes(generator, 1000))
    window = draw_classes(generator, 1000, spread=0.3, sharpness=4.0)
    config = replace(world.config, **ASKED)
    found = examine(config, reference, Gathered(summarise_classes(reference, window), window.labelled))
    names = [check.name for check in found.result.checks]
    assert names == sorted(names, key=CHECKS.index)
    assert names[-2:] == ["EstimatedQuality", "Calibration"]
    assert states(found)["Calibration"] == "Breached"
    assert found.expected is not None
    assert found.expected.rows == 1000
    assert found.reliability is not None
    assert sum(item.rows for item in found.reliability.bins) == 1000


def test_neither_is_listed_unless_it_is_asked_for(world: "World") -> None:
    generator = np.random.default_rng(0)
    reference = classification(draw_classes(generator, 300))
    window = draw_classes(generator, 300)
    found = examine(world.config, reference, Gathered(summarise_classes(reference, window), window.labelled))
    assert not {"EstimatedQuality", "Calibration"} & set(states(found))
    assert (found.expected, found.reliability) == (None, None)


def test_a_regression_has_no_calibration_and_is_judged_by_the_metric_that_quality_names(world: "World") -> None:
    generator = np.random.default_rng(0)
    reference = regression(draw_numbers(generator, 3000))
    window = draw_numbers(generator, 500, low=0.8)
    config = replace(world.config, **ASKED, quality=replace(world.config.quality, metric="mae"))
    labelled = Labelled(Answers("Regression", np.empty(0), np.empty(0)))
    found = examine(config, reference, Gathered(summarise_numbers(reference, window), labelled))
    assert "Calibration" not in states(found)
    assert states(found)["EstimatedQuality"] == "Breached"
    assert found.expected is not None
    assert (found.expected.metric, found.expected.method) == ("mae", "DirectLoss")


def test_a_stored_version_of_an_older_release_leaves_both_unknown(world: "World") -> None:
    reference = read_reference(world.store, world.config.version)
    summary = replace(empty_summary(reference), rows=400)
    window = draw_classes(np.random.default_rng(0), 400)
    found = examine(replace(world.config, **ASKED), reference, Gathered(summary, window.labelled))
    told = {check.name: check for check in found.result.checks}
    for name in ("EstimatedQuality", "Calibration"):
        assert told[name].state == "Unknown"
        assert "train again with this release" in told[name].message
