"""What the server counts, against Prometheus' own client, and the documentation against what it counts."""

import re
import sys
import threading
from collections import Counter as Counts
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from modelkit.contract.files import PROFILE
from modelkit.data.profile import build_profile
from modelkit.serve.instruments import Buckets
from modelkit.serve.metrics import ServerMetrics, StreamMetrics, prediction_edges
from modelkit.serve.rollout.metrics import RouteMetrics
from tests.unit.serve.conftest import Serve
from tests.unit.serve.serve_models import iris

DOCS = Path(__file__).parents[3] / "docs" / "deployment.md"
ROW = re.compile(r"\| `(modelloop_\w+)` \| (\w+) \| ([^|]*)\|")
NUMBERS = st.floats(-1e6, 1e6)


def build(**labels: str) -> ServerMetrics:
    return ServerMetrics(**({"model": "iris", "version": "3", "digest": "sha256:0"} | labels))


def samples(metrics: ServerMetrics) -> dict[str, float]:
    """Every sample of a scrape by name and labels, as Prometheus itself would read it."""
    text = generate_latest(metrics.registry).decode()
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(NUMBERS), st.lists(NUMBERS), st.sets(NUMBERS, min_size=1))
def test_buckets_count_as_prometheus_own_histogram_does(
    ones: list[float], many: list[float], bounds: set[float]
) -> None:
    registry = CollectorRegistry()
    theirs = Histogram("h", "h", buckets=sorted(bounds), registry=registry)
    ours = Buckets(sorted(bounds))
    for value in ones:
        theirs.observe(value)
        ours.observe(value)
    for value in many:
        theirs.observe(value)
    ours.observe_all(np.array(many, dtype=np.float64))
    expected = [
        (sample.labels["le"], sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "h_bucket"
    ]
    assert ours.cumulative() == expected
    assert ours.sum == pytest.approx(sum([*ones, *many]), abs=1e-6)


def test_requests_are_counted_by_route_and_code() -> None:
    metrics = build()
    for code in (200, 200, 422, "OK"):
        metrics.observe_request("predict", code, 0.003)
    found = samples(metrics)
    assert found["modelloop_requests_total,code=200,route=predict"] == 2
    assert found["modelloop_requests_total,code=422,route=predict"] == 1
    assert found["modelloop_requests_total,code=OK,route=predict"] == 1
    assert found["modelloop_request_duration_seconds_bucket,le=0.0025,route=predict"] == 0
    assert found["modelloop_request_duration_seconds_bucket,le=0.005,route=predict"] == 4
    assert found["modelloop_request_duration_seconds_count,route=predict"] == 4
    assert found["modelloop_request_duration_seconds_sum,route=predict"] == pytest.approx(0.012)


def test_a_call_of_the_model_is_counted_by_rows_requests_and_time() -> None:
    metrics = build()
    metrics.observe_batch(48, 16, 0.0002)
    metrics.observe_wait(0.004)
    metrics.observe_rejection("Overloaded")
    found = samples(metrics)
    assert (found["modelloop_batch_rows_bucket,le=32.0"], found["modelloop_batch_rows_bucket,le=64.0"]) == (0, 1)
    assert found["modelloop_batch_requests_bucket,le=16.0"] == 1
    assert found["modelloop_inference_duration_seconds_bucket,le=0.00025"] == 1
    assert found["modelloop_queue_duration_seconds_sum"] == 0.004
    assert found["modelloop_rejected_requests_total,reason=Overloaded"] == 1


@given(st.lists(st.lists(st.sampled_from([0, 1, 2, 7]), min_size=1, max_size=5)))
def test_predictions_are_counted_by_class(answers: list[list[int]]) -> None:
    metrics = build()
    metrics.declare_classes((0, 1, 2))
    for answer in answers:
        metrics.observe_predictions(answer)
    found, expected = samples(metrics), Counts(label for answer in answers for label in answer)
    assert found["modelloop_rows_total"] == expected.total()
    for label in (0, 1, 2):
        assert found[f"modelloop_predictions_total,class={label}"] == expected[label]
    assert found.get("modelloop_predictions_total,class=other", 0) == expected[7]


def test_a_model_of_very_many_classes_has_a_bounded_number_of_series() -> None:
    metrics = build()
    metrics.declare_classes(tuple(range(5000)))
    metrics.observe_predictions(list(range(5000)))
    found = {name: value for name, value in samples(metrics).items() if name.startswith("modelloop_predictions_total")}
    assert len(found) == 101
    assert found["modelloop_predictions_total,class=other"] == 4900


def test_a_regression_is_counted_over_the_bins_of_its_profile(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(150, 50, 1000)
    profile = build_profile({"a": values}, {"a": "numeric"}, values, None, "Regression", None)
    (tmp_path / PROFILE).write_bytes(orjson.dumps(profile))
    metrics = build()
    edges = prediction_edges(tmp_path)
    metrics.declare_bins(edges)
    metrics.observe_predictions(values.tolist())
    metrics.observe_predictions([float(values[0])])
    counts = [value for name, value in samples(metrics).items() if name.startswith("modelloop_prediction_value_bucket")]
    assert len(counts) == len(edges) + 1
    assert np.diff([0, *counts]).min() >= 90  # quantile bins of its own data are about equally full
    assert counts[-1] == 1001


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"predictions": {"edges": ["a"]}}', b"\x80\x04"])
def test_without_a_usable_profile_a_regression_has_no_bins(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / PROFILE).write_bytes(content)
    assert prediction_edges(tmp_path) == []
    metrics = build()
    metrics.declare_bins(prediction_edges(tmp_path))
    metrics.observe_predictions([1.5])
    assert not any("prediction_value" in name for name in samples(metrics))


def test_threads_that_count_at_once_lose_nothing() -> None:
    metrics = build()
    metrics.declare_classes((0, 1))
    switch = sys.getswitchinterval()

    def work() -> None:
        for _ in range(2000):
            metrics.observe_request("predict", 200, 0.001)
            metrics.observe_predictions([1])
            metrics.observe_batch(1, 1, 0.001)

    try:
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    found = samples(metrics)
    assert found["modelloop_requests_total,code=200,route=predict"] == 8000
    assert found["modelloop_request_duration_seconds_count,route=predict"] == 8000
    assert found["modelloop_predictions_total,class=1"] == 8000
    assert found["modelloop_batch_rows_sum"] == 8000


def test_labels_that_need_quoting_come_back_whole() -> None:
    metrics = build(model='a"b\\c\nd')
    metrics.declare_classes(('"', "\n", "ü"))
    metrics.observe_predictions(['"', "\n", "ü"])
    text = generate_latest(metrics.registry).decode()
    found = {
        sample.labels["class"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "modelloop_predictions"
        for sample in family.samples
    }
    assert found == {'"': 1, "\n": 1, "ü": 1}


def test_the_registry_can_be_read_as_open_metrics_too() -> None:
    metrics = build()
    metrics.observe_request("predict", 200, 0.003)
    names = {family.name for family in parse_openmetrics(generate_openmetrics(metrics.registry).decode())}
    assert {"modelloop_requests", "modelloop_request_duration_seconds", "process_cpu_seconds"} <= names


async def test_a_scrape_of_a_server_shows_what_was_asked(serve: Serve) -> None:
    served = serve(iris())
    await served.predict(iris().values(3))
    text = (await served.client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.value for sample in families["modelloop_batch_rows"].samples if sample.name.endswith("_sum")} == {3}
    assert "process_resident_memory_bytes" in families
    assert families["modelloop_connections"].samples[0].value >= 0


def _documented() -> dict[str, tuple[str, set[str]]]:
    rows = [ROW.match(line) for line in DOCS.read_text().splitlines()]
    return {row[1]: (row[2], set(re.findall(r"`(\w+)`", row[3]))) for row in rows if row is not None}


def test_the_documentation_lists_every_metric_with_its_type_and_labels() -> None:
    metrics = build()
    metrics.declare_classes((0, 1))
    metrics.declare_bins([1.0])
    metrics.observe_request("predict", 200, 0.001)
    metrics.observe_rejection("Overloaded")
    StreamMetrics(metrics, "requests")
    route = RouteMetrics(metrics.registry)
    route.count_request("other", "Answered")
    route.count_copy("Compared")
    route.count_labels("Joined", 1)
    route.observe("other", 0.001)
    metrics.watch_queue("requests", lambda: 0)
    expected = {}
    for family in metrics.registry.collect():
        if family.name.startswith("modelloop_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            expected[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    assert _documented() == expected
