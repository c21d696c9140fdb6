"""A real Prometheus, with the committed configuration, scrapes the real pods of a model that is served, retrained and
rolled out: every expression of both dashboards, every rule and what every alert looks at has data."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelloop.desired.labels import DEPLOYMENT, DIGEST, RUN_ANNOTATION
from tests.cluster.cluster_prometheus import PrometheusProcess
from tests.e2e.e2e_manifests import build_deployment, build_monitor, build_training
from tests.e2e.e2e_operator import SYSTEM, Operator
from tests.e2e.e2e_prometheus import start_prometheus
from tests.e2e.e2e_space import PATIENCE, Space
from tests.e2e.e2e_traffic import Load, new_client, read_patients, send_patients
from tests.unit.observability.observed_queries import (
    DASHBOARDS,
    FILLED,
    Query,
    find_alert_series,
    find_panel_queries,
    find_variable_queries,
    read_rules,
)

Object = dict[str, Any]

NAME, REGRESSION = "seen", "sizes"
BASELINE, DRIFTED = read_patients(0, 80), read_patients(80, 240, drifted=True)
ROLLOUT: Object = {
    "strategy": "Canary",
    # It stays in its step until everything was looked at.
    "steps": [{"weight": 50, "hold": "30m"}],
    "comparePercent": 100,
    "bakeTime": "5s",
    "analysis": {"interval": "1s", "dryRun": True},
}
COSTS = {"pricePerCpuHour": 0.05}
SLOW: Object = {
    "candidates": [{"estimator": "GradientBoostingClassifier", "params": {"n_estimators": 300}}],
    "folds": 10,
    "gates": [{"metric": "f1", "min": 0.9999}],
}
"""A run that is still under way when it is scraped, and whose version doesn't take the place of the tried one."""
DIABETES = dict.fromkeys(("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"), 0.01)
MISHAPS = {"ModelLoopWatchMissedChanges"}
"""Alerts on what has no series at all before it happens."""
ROUNDS = 90


def prepare(space: Space) -> None:
    space.apply(
        build_training(NAME, costs=COSTS, budget={"cpuHours": 100, "window": "24h"}),
        build_deployment(NAME, rollout=ROLLOUT),
        build_monitor(NAME, retrain={"data": "Append"}, alarm={"breaches": 1, "windows": 1}),
        build_training(
            REGRESSION,
            data={"uri": "builtin://diabetes", "target": "target"},
            task="Regression",
            candidates=[{"estimator": "Ridge"}],
            gates=[{"metric": "r2", "min": 0.1}],
        ),
        build_deployment(REGRESSION),
    )
    space.begin(lambda: try_second_version(space))


def try_second_version(space: Space) -> None:
    """Drifted requests, a retrain because of them, and a rollout that is measured for as long as anybody looks."""
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        space.wait_condition(kind, NAME)
    send_patients(space.address(NAME), [*BASELINE, *DRIFTED])
    space.wait_captured(NAME, len(BASELINE) + len(DRIFTED))
    window = space.look(NAME)
    states = {check["name"]: check["state"] for check in window["checks"]}
    assert states["Drift"] == "Breached", window
    space.wait_status("ModelTraining", NAME, lambda status: number_of(status.get("champion")) == 2, "the retrain")
    space.wait_status("ModelDeployment", NAME, is_measuring, "a rollout that is measured")
    space.wait_condition("ModelDeployment", REGRESSION)


def number_of(version: Object | None) -> int:
    return int((version or {}).get("number", 0))


def is_measuring(status: Object) -> bool:
    return bool((status.get("rollout") or {}).get("checks"))


def ask(space: Space) -> None:
    """What the load doesn't ask: labels, wrong requests, and the other model."""
    send_patients(space.address(NAME), BASELINE[:10])
    with new_client(space.address(NAME)) as client:
        assert client.post("/predict", json={"features": []}).status_code == httpx.codes.BAD_REQUEST
    with new_client(space.address(REGRESSION)) as client:
        for _ in range(5):
            client.post("/predict", json={"features": [DIABETES]}).raise_for_status()


def require_reachable(pod: Object) -> None:
    """Skip where pods have no address that this host knows a way to, as in a node of kind."""
    try:
        socket.create_connection((pod["status"]["podIP"], 8080), timeout=5.0).close()
    except OSError as exc:
        pytest.skip(f"this host has no way to the pods' addresses: {exc}")


@pytest.fixture(scope="module")
def prometheus(
    space: Space, operator: Operator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrometheusProcess]:
    """Prometheus, while a version is tried and another one is trained."""
    space.await_begun()
    name = operator.pod()
    require_reachable(next(pod for pod in operator.pods() if pod["metadata"]["name"] == name))
    process = start_prometheus(space, tmp_path_factory.mktemp("prometheus"))
    try:
        yield process
    finally:
        process.kill()


def read_targets(prometheus: PrometheusProcess) -> list[Object]:
    """What is scraped, with the answer's health."""
    answer = httpx.get(f"{prometheus.address}/api/v1/targets", trust_env=False).raise_for_status()
    targets: list[Object] = answer.json()["data"]["activeTargets"]
    return targets


def find_queries(namespace: str, model: str) -> dict[str, str]:
    """What a person who looks at `model` has Grafana ask."""
    filled = FILLED | {"$namespace": namespace, "$model": model, "$training": model}
    boards = [find(name, filled) for name in DASHBOARDS for find in (find_panel_queries, find_variable_queries)]
    return {query.place: query.expression for queries in boards for query in queries}


class Looked:
    """The expressions that no data was seen of so far; one is done with as soon as it had some."""

    def __init__(self, space: Space) -> None:
        recorded = [Query(rule["record"], rule["record"]) for rule in read_rules() if "record" in rule]
        alerts = [query for query in find_alert_series() if query.place.rpartition(" ")[0] not in MISHAPS]
        self.missing: dict[str, list[str]] = {query.place: [query.expression] for query in (*recorded, *alerts)}
        # A page has a row for classes and one for numbers: what one model doesn't have, the other one has.
        for model in (NAME, REGRESSION):
            for place, expression in find_queries(space.name, model).items():
                self.missing.setdefault(place, []).append(expression)

    def look(self, prometheus: PrometheusProcess) -> None:
        for place, expressions in tuple(self.missing.items()):
            if any(prometheus.read(expression) for expression in expressions):
                del self.missing[place]


@pytest.mark.timeout(900)
def test_the_pods_of_operator_and_servers_are_found_with_their_labels(
    prometheus: PrometheusProcess, space: Space, operator: Operator
) -> None:
    servers = {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in space.pods("server")}
    wanted = {("modelloop-operator", SYSTEM, operator.pod())}
    wanted |= {("modelloop-servers", space.name, name) for name in servers}

    def found() -> dict[tuple[str, str, str], Object]:
        targets = [target for target in read_targets(prometheus) if target["health"] == "up"]
        labels = [target["labels"] for target in targets]
        return {(item["job"], item["namespace"], item["pod"]): item for item in labels}

    space.wait(lambda: wanted <= found().keys(), "every pod being scraped", 60.0)
    for (job, _, pod), labels in found().items():
        if job == "modelloop-servers" and pod in servers:
            assert labels["model"] == servers[pod][DEPLOYMENT]
            assert labels["version_digest"] == servers[pod][DIGEST]
    told = prometheus.ask("query", query='modelloop_condition{kind="ModelDeployment", type="Available"}')["result"]
    namespaces = {series["metric"]["namespace"] for series in told}
    assert space.name in namespaces, "the operator's own labels count"
    assert SYSTEM not in namespaces


@pytest.mark.timeout(900)
def test_every_expression_of_dashboards_and_rules_has_data_of_real_pods(
    prometheus: PrometheusProcess, space: Space
) -> None:
    looked = Looked(space)
    space.patch("ModelTraining", NAME, SLOW)
    space.annotate("ModelTraining", NAME, RUN_ANNOTATION, "while it is looked at")
    with Load(space.address(NAME), [row for row, _ in BASELINE], connections=2) as load:
        for _ in range(ROUNDS):
            ask(space)
            looked.look(prometheus)
            if not looked.missing:
                break
            time.sleep(1.0)
    assert sorted(looked.missing) == []
    load.require_no_failure()


def test_every_rule_is_evaluated_without_an_error(prometheus: PrometheusProcess, space: Space) -> None:
    answer = httpx.get(f"{prometheus.address}/api/v1/rules", trust_env=False).raise_for_status()
    rules = [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == len(read_rules())
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}


@pytest.mark.timeout(PATIENCE + 60)
def test_a_drifted_window_fires_its_alert_and_nothing_says_that_the_service_is_bad(
    prometheus: PrometheusProcess, space: Space
) -> None:
    def firing() -> set[str]:
        alerts = prometheus.ask("query", query=f'ALERTS{{alertstate="firing", namespace="{space.name}"}}')["result"]
        return {series["metric"]["alertname"] for series in alerts}

    space.wait(lambda: "ModelLoopDriftBreached" in firing(), "the alert")
    assert not firing() & {"ModelLoopOperatorDown", "ModelLoopModelUnavailable", "ModelLoopErrorRatioHigh"}
