"""The operator as a program in a cluster: probes, metrics, logs, and a stop that nobody notices."""

import time

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_operator import SYSTEM, Operator
from tests.e2e.e2e_space import Kube, Space

STOP_SECONDS = 10.0


def test_probes_and_metrics_answer_through_the_service(operator: Operator) -> None:
    assert operator.get("healthz") == "ok\n"
    assert operator.get("readyz") == "ok\n"
    families = {family.name: family for family in text_string_to_metric_families(operator.get("metrics"))}
    assert families["modelloop_lease_held"].samples[0].value == 1.0
    assert {"modelloop_reconciles", "modelloop_writes", "modelloop_cache_objects"} <= families.keys()


def test_it_has_neither_crashed_nor_failed_in_anything_so_far(operator: Operator, kube: Kube) -> None:
    (pod,) = operator.pods()
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    records = operator.records()
    assert all({"time", "level", "message"} <= record.keys() for record in records)
    assert [record for record in records if record["level"] in ("ERROR", "CRITICAL")] == []


def test_it_stops_within_10_seconds_and_its_successor_needs_not_wait_for_the_lease(
    operator: Operator, space: Space
) -> None:
    before = operator.leader()
    seconds = operator.stop()
    assert seconds < STOP_SECONDS
    started = time.monotonic()
    successor = wait_for(lambda: (name := operator.leader()) != before and name, 30.0, what="a successor")
    # A Lease that wasn't given up lasts 15 s.
    assert time.monotonic() - started < 12.0
    assert successor in {pod["metadata"]["name"] for pod in operator.pods()}
    operator.wait_until_it_leads()
    assert space.api.find("Lease", SYSTEM, "modelloop-operator") is not None
