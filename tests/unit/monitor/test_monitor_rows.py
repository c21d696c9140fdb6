"""The checks of rows from captured traffic to the status, with a real model, and what they need of a version."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelkit.artifact.version import DigestMismatchError, write_version
from modelkit.contract.codec import to_plain
from modelkit.contract.config import VersionRef
from modelkit.contract.files import METRICS, MODEL_ONNX, PROFILE, REFERENCE, SIGNATURE
from modelkit.contract.monitoring import AttributionConfig, MultivariateConfig
from modelkit.contract.result import CHECKS, CheckResult
from modelkit.data.profile import build_profile
from modelkit.data.sample import build_sample, dump_sample
from modelkit.monitor.explaining import read_own_rows
from modelkit.monitor.gathering import gather_window
from modelkit.monitor.page import build_page
from modelkit.monitor.reference import read_reference
from modelkit.monitor.report import build_report
from modelkit.monitor.window import Examination, examine_window
from modelkit.store.segments import compress_segment, decompress_segment
from tests.unit.serve.serve_models import Example, iris, people

END = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOUNDS = (END - timedelta(hours=1), END)


def version_files(example: Example) -> dict[str, bytes]:
    """The example's files, and those that only a monitor reads."""
    inputs = example.signature.inputs
    columns = {
        column.name: example.rows[:, index].astype(np.float64 if column.kind == "numeric" else object)
        for index, column in enumerate(inputs)
    }
    kinds = {column.name: column.kind for column in inputs}
    predictions, scores = example.pipeline.predict(example.rows), example.pipeline.predict_proba(example.rows)
    profile = build_profile(columns, kinds, predictions, scores, "Classification", example.signature.classes)
    sample = build_sample(profile["features"], pa.table(columns), len(example.rows))
    metrics = {"metric": "f1", "metrics": {"f1": 0.9}, "test_rows": len(example.rows)}
    return {
        **example.files,
        PROFILE: json.dumps(profile).encode(),
        METRICS: json.dumps(metrics).encode(),
        REFERENCE: dump_sample(sample),
    }


@dataclass
class Loop:
    """A version of an example, what is asked of it, and looks at that."""

    world: Any
    example: Example

    def store(self, **changes: bytes | None) -> None:
        """Write the version with other files in place of some; None: without it."""
        names = {"reference": REFERENCE, "onnx": MODEL_ONNX, "signature": SIGNATURE}
        changed = {names[key]: data for key, data in changes.items()}
        files = {name: data for name, data in {**version_files(self.example), **changed}.items() if data is not None}
        path = "models/shop/other/1-00000000"
        digest = write_version(self.world.store, path, files, {})
        config = replace(
            self.world.config,
            version=VersionRef(number=1, path=path, digest=digest),
            multivariate=MultivariateConfig(),
            attribution=AttributionConfig(),
        )
        self.world = replace(self.world, config=config)

    def ask(self, count: int, change: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> None:
        generator = np.random.default_rng(5)
        rows = self.example.records(len(self.example.rows))
        chosen = [change(rows[index]) for index in generator.integers(0, len(rows), count)]
        self.world.send(chosen, predictions=[0] * count, ago=1800)

    def look(self, **changes: Any) -> Examination:
        store, config = self.world.store, replace(self.world.config, **changes)
        reference = read_reference(store, config.version)
        gathered = gather_window(store, config, reference, BOUNDS, END)
        return examine_window(config, reference, gathered, BOUNDS, read_own_rows(store, config, reference))


@pytest.fixture
def loop(world: Any) -> Loop:
    loop = Loop(world, iris())
    loop.store()
    return loop


def checks(examination: Examination) -> dict[str, CheckResult]:
    return {check.name: check for check in examination.result.checks}


def test_unchanged_traffic_is_ok_and_in_the_order_in_which_people_read(loop: Loop) -> None:
    loop.ask(150)
    found = checks(loop.look())
    assert list(found) == [name for name in CHECKS if name in found]
    assert (found["MultivariateDrift"].state, found["MultivariateDrift"].rows) == ("OK", 150)
    assert (found["AttributionDrift"].state, found["AttributionDrift"].rows) == ("OK", 150)
    assert found["AttributionDrift"].value is not None
    assert found["AttributionDrift"].value > 0.95


def test_traffic_that_moved_where_another_feature_decides_is_breached(loop: Loop) -> None:
    # Beyond all petals that were seen, only the sepals are left to decide by.
    loop.ask(150, lambda row: row | {"f2": 9.0, "f3": 1.0, "f0": 9.0 - row["f0"]})
    examination = loop.look()
    found = checks(examination)
    assert found["MultivariateDrift"].state == "Breached"
    assert examination.separation is not None
    assert examination.separation.auc > 0.9
    assert examination.attributions is not None
    assert {feature.feature for feature in examination.attributions.features} == set(loop.example.names)


def test_neither_is_listed_when_it_is_not_configured(loop: Loop) -> None:
    loop.ask(150)
    examination = loop.look(multivariate=None, attribution=None)
    assert set(checks(examination)) == {"DataQuality", "Drift", "PredictionDrift", "Quality"}
    assert (examination.separation, examination.attributions) == (None, None)
    assert "AttributionDrift" not in checks(loop.look(attribution=None))
    assert "MultivariateDrift" not in checks(loop.look(multivariate=None))


@pytest.mark.parametrize("asked", [0, 49])
def test_too_few_rows_are_unknown(loop: Loop, asked: int) -> None:
    if asked:
        loop.ask(asked)
    found = checks(loop.look())
    for name in ("MultivariateDrift", "AttributionDrift"):
        assert (found[name].state, found[name].rows) == ("Unknown", asked)
        assert found[name].message.endswith("at least 50 are needed")


@pytest.mark.parametrize(
    ("changes", "multivariate", "attribution"),
    [
        ({"reference": None}, "version 1 has no reference.arrow: train again", "version 1 has no reference.arrow"),
        ({"reference": b"damaged"}, "is no Arrow file: train again", "is no Arrow file: train again"),
        ({"reference": dump_sample(pa.table({"a": [1]}))}, "has other columns", "has other columns"),
        ({"onnx": None}, None, "version 1 can't be explained: it has no model.onnx"),
    ],
)
def test_a_version_that_lacks_a_file_is_unknown_and_says_what_to_do(
    world: Any, changes: dict[str, Any], multivariate: str | None, attribution: str
) -> None:
    loop = Loop(world, iris())
    loop.store(**changes)
    loop.ask(150)
    found = checks(loop.look())
    assert (found["MultivariateDrift"].state == "Unknown") is (multivariate is not None)
    assert (multivariate or "") in found["MultivariateDrift"].message
    assert found["AttributionDrift"].state == "Unknown"
    assert attribution in found["AttributionDrift"].message


def test_a_small_test_part_is_unknown(loop: Loop) -> None:
    loop.ask(200)
    found = checks(loop.look(min_rows=160))
    assert "the version's own test had 150 rows; at least 160 are needed" in found["MultivariateDrift"].message


def test_a_file_that_was_changed_is_refused(loop: Loop) -> None:
    loop.world.store.write(f"{loop.world.config.version.path}/{REFERENCE}", b"forged")
    with pytest.raises(DigestMismatchError, match=r"reference\.arrow"):
        loop.look()
    loop.world.store.write(f"{loop.world.config.version.path}/{MODEL_ONNX}", b"forged")
    loop.look(multivariate=None, attribution=None)


def test_a_hidden_feature_leaves_one_check_the_others_and_the_other_check_nothing(loop: Loop) -> None:
    captured = loop.example.records(150)
    loop.world.send([row | {"f0": "0f" * 8} for row in captured], predictions=[0] * 150, ago=1800)
    segment = next(entry.path for entry in loop.world.store.list("captures") if "requests" in entry.path)
    lines = [json.loads(line) for line in decompress_segment(loop.world.store.read(segment)).splitlines()]
    hidden = [json.dumps(line | {"redacted": ["f0"]}).encode() + b"\n" for line in lines]
    loop.world.store.write(segment, compress_segment(iter(hidden)))
    found = checks(loop.look())
    assert (found["MultivariateDrift"].state, found["AttributionDrift"].state) == ("OK", "Unknown")
    assert "1 redacted feature was left out" in found["MultivariateDrift"].message
    assert "don't hold 1 feature as sent" in found["AttributionDrift"].message


def test_text_columns_gaps_and_booleans_are_explained_too(world: Any) -> None:
    loop = Loop(world, people())
    loop.store()
    loop.ask(90)
    found = checks(loop.look())
    assert (found["MultivariateDrift"].state, found["AttributionDrift"].state) == ("OK", "OK")


def test_no_value_of_a_row_is_in_evidence_or_report(world: Any) -> None:
    loop = Loop(world, people())
    loop.store()
    loop.ask(90, lambda row: row | {"city": "Xanadu", "age": 777.25})
    examination = loop.look()
    assert examination.separation is not None
    assert examination.attributions is not None
    told = str([to_plain(examination.separation), to_plain(examination.attributions), to_plain(examination.result)])
    told += build_report(loop.world.config, examination).decode() + build_page(loop.world.config, examination).decode()
    assert "Xanadu" not in told
    assert "777.25" not in told
