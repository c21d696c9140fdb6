"""The report page: self-contained, well-formed, small, escaped, and the important things first."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.monitoring import MonitorConfig, ReportConfig
from modelkit.data.profile import build_profile
from modelkit.monitor.bins import describe_bins
from modelkit.monitor.page import build_page
from modelkit.monitor.reference import Reference, parse_reference
from modelkit.monitor.report import build_report
from modelkit.monitor.window import Examination
from tests.unit.monitor.rows import examine_table

END = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG = MonitorConfig(
    namespace="shop",
    name="churn",
    deployment="churn",
    version=VersionRef(number=1, path="models/x", digest="sha256:abc"),
    version_since=END - timedelta(days=1),
    store=StoreConfig(uri="file:///x"),
    window_seconds=3600,
)
VOID = {"meta"}


def build_reference(names: list[str], classes: list[Any] | None = None) -> Reference:
    generator = np.random.default_rng(0)
    columns = {name: generator.normal(size=300) for name in names}
    answers = np.arange(300) % 2 if classes else generator.normal(size=300)
    task = "Classification" if classes else "Regression"
    metric, value = ("accuracy", 0.95) if classes else ("rmse", 1.0)
    profile = build_profile(columns, dict.fromkeys(names, "numeric"), answers, None, task, classes)
    inputs = [{"name": name} for name in names]
    signature = {"task": task, "classes": classes, "inputs": inputs}
    return parse_reference(profile, {"metric": metric, "metrics": {metric: value}, "test_rows": 100}, signature)


def examine(names: list[str], rows: int = 120, shift: float = 0.0, classes: list[Any] | None = None) -> Examination:
    generator = np.random.default_rng(1)
    features = pa.table({name: generator.normal(size=rows) + shift for name in names})
    meta = pa.table(
        {
            "prediction": np.arange(rows) % 2 if classes else generator.normal(size=rows),
            "probabilities": pa.array([None] * rows, pa.list_(pa.float64())),
            "redacted": pa.nulls(rows, pa.list_(pa.string())),
            "label": np.zeros(rows, dtype=np.int64),
        }
    )
    return examine_table(CONFIG, build_reference(names, classes), features, meta, (END - timedelta(hours=1), END))


class Checker(HTMLParser):
    """Collects the tags and text, and fails on one that is closed wrongly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check(page: bytes) -> Checker:
    checker = Checker()
    checker.feed(page.decode())
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = build_page(CONFIG, examine(["age", "size"], shift=2.0, classes=[0, 1]))
    checker = check(page)
    assert {"script", "link", "img", "iframe"}.isdisjoint(checker.tags)
    assert not re.search(rb"https?:|url\(|@import", page)


def test_states_are_told_in_words_and_signs() -> None:
    text = check(build_page(CONFIG, examine(["age"], shift=3.0, classes=[0, 1]))).text
    assert "✕ Breached" in text
    assert text.index("Data drift") < text.index("Features that differ most") < text.index("All features")
    assert text.index("All features") < text.index("What was looked at")


def test_too_few_rows_draw_nothing_and_say_so() -> None:
    page = build_page(CONFIG, examine(["age"], rows=10))
    assert "svg" not in check(page).tags
    assert "? Unknown" in check(page).text
    assert b'"bins": []' in build_report(CONFIG, examine(["age"], rows=10))


def test_no_rows_make_a_page_too() -> None:
    check(build_page(CONFIG, examine(["age"], rows=0)))


@pytest.mark.parametrize("count", [30, 1000])
def test_the_page_stays_small_for_any_number_of_features(count: int) -> None:
    names = [f"a rather long name of a feature, number {index}" for index in range(count)]
    page = build_page(CONFIG, examine(names, shift=2.0, classes=[0, 1]))
    assert len(page) < 200_000
    assert (b"700 further features in report.json" in page) == (count == 1000)


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=20)
def test_any_name_is_shown_as_it_is_and_never_as_markup(name: str) -> None:
    name = "".join(char for char in name if char.isprintable()) + '<script>alert("1")</script>&amp;'
    config = replace(CONFIG, name=name, deployment=name)
    checker = check(build_page(config, examine([name], shift=2.0, classes=[0, 1])))
    assert "script" not in checker.tags
    assert name in checker.text


def test_a_regression_is_drawn_with_its_allowance_on_the_side_of_a_loss() -> None:
    page = build_page(CONFIG, examine(["age"])).decode()
    band = re.search(r'class="allowed" x="([\d.]+)"', page)
    mark = re.search(r'class="reference" x1="([\d.]+)"', page)
    assert band is not None
    assert mark is not None
    assert float(band[1]) == pytest.approx(float(mark[1]))


def test_rare_categories_are_shown_as_others_only() -> None:
    values = np.array(["Ulm"] * 300 + ["Bonn"] * 50 + ["Zwiesel"] * 2, dtype=object)
    profile = build_profile({"city": values}, {"city": "categorical"}, np.arange(3.0), None, "Regression", None)
    signature = {"task": "Regression", "classes": None, "inputs": [{"name": "city"}]}
    reference = parse_reference(profile, {"metric": "rmse", "metrics": {"rmse": 1.0}}, signature)
    meta = pa.table(
        {
            "prediction": np.zeros(100),
            "probabilities": pa.array([None] * 100, pa.list_(pa.float64())),
            "redacted": pa.nulls(100, pa.list_(pa.string())),
            "label": pa.nulls(100),
        }
    )
    features = pa.table({"city": ["Ulm"] * 90 + ["Zwiesel"] * 10})
    examination = examine_table(CONFIG, reference, features, meta, (END - timedelta(hours=1), END))
    assert [item.label for item in describe_bins(examination.counts.features[0])] == ["Ulm", "other"]
    assert b"Zwiesel" not in build_page(CONFIG, examination) + build_report(CONFIG, examination)


def test_a_handful_of_bad_values_is_not_counted_in_reports() -> None:
    generator = np.random.default_rng(1)
    ages = generator.normal(size=120)
    ages[:3] = np.nan
    meta = pa.table(
        {
            "prediction": generator.normal(size=120),
            "probabilities": pa.nulls(120, pa.list_(pa.float64())),
            "redacted": pa.nulls(120, pa.list_(pa.string())),
            "label": pa.nulls(120, pa.float64()),
        }
    )
    bounds = (END - timedelta(hours=1), END)
    examination = examine_table(CONFIG, build_reference(["age"]), pa.table({"age": ages}), meta, bounds)
    (feature,) = json.loads(build_report(CONFIG, examination))["features"]
    assert feature["missing"] is None
    assert sum(item["window"] for item in feature["bins"]) == pytest.approx(1, abs=1e-5)
    assert "few" in check(build_page(CONFIG, examination)).text
    assert (
        json.loads(build_report(replace(CONFIG, report=ReportConfig(min_bin_rows=3)), examination))["features"][0][
            "missing"
        ]
        == 3
    )
