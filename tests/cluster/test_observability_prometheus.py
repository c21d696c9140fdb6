"""A real Prometheus with the committed configuration and rules scrapes a real operator and real servers: every query of
every dashboard, and every rule, finds data."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from modelkit.contract.codec import dumps
from modelkit.contract.config import StoreConfig, TrainerConfig
from modelkit.contract.files import PROFILE
from modelkit.contract.result import CheckResult, TrainingResult, Usage
from modelkit.contract.route import PeerConfig, RouteConfig, RuleConfig
from modelkit.store.store import Store
from modelkit.train.progress import Progress, served_metrics
from modelloop.desired.labels import DIGEST, RUN, RUN_ANNOTATION, SELECTOR
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, Object, wait_for
from tests.cluster.cluster_discovery import build_scraping
from tests.cluster.cluster_loop import (
    NAME,
    breached_windows,
    containers,
    deployment,
    digest_of,
    is_ready,
    monitor,
    monitor_config,
    number_of,
    patch_windows,
    trainer_config,
    training,
)
from tests.cluster.cluster_node import Background, Node, Program, running
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_prometheus import PrometheusProcess, find_hindrance
from tests.cluster.cluster_reports import Reporters
from tests.cluster.cluster_story import SHORT
from tests.unit.observability.observed_queries import (
    DASHBOARDS,
    FILLED,
    MONITORING,
    RULES,
    Query,
    find_panel_queries,
    find_rule_queries,
    find_variable_queries,
    read_rules,
)
from tests.unit.serve.serve_models import cancer, diabetes, store_example
from tests.unit.serve.serve_process import Pod, running_pod, server_config
from tests.unit.serve.serve_rollout import newer_cancer, wait_until

INSTALL = MONITORING.parent / "install"
UNENDING = 3
"""The run that is still under way when everything is looked at."""
REGRESSION = "diabetes"
COSTS = {"pricePerCpuHour": 0.05}
ROUNDS = 30
"""Of requests, about one a second, until there must be data."""


def play_trainers() -> Program:
    """As usual, with what the runs used; run UNENDING doesn't end."""

    def measure(_: TrainerConfig, result: TrainingResult) -> TrainingResult:
        return replace(result, usage=Usage(cpu_seconds=30.0, memory_gib_seconds=12.0))

    usual = containers(measure)

    def run(pod: Object) -> Sequence[Object]:
        is_trainer = pod["spec"]["containers"][0]["name"] == "trainer"
        return [running(pod)] if is_trainer and trainer_config(pod).number == UNENDING else usual(pod)

    return run


class Scene:
    """A model of which a second version is tried, while a third is trained."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def begin(self) -> None:
        """What a user applies."""
        budget = {"cpuHours": 100, "window": "24h"}
        self.api.apply(training(self.namespace, costs=COSTS, budget=budget))
        step = {"weight": 50, "hold": "10m"}
        rollout = {"strategy": "Canary", "steps": [step], "analysis": {"interval": "1s"}, "bakeTime": "1s"}
        self.api.apply(deployment(self.namespace, rollout=rollout))
        self.api.apply(monitor(self.namespace, retrain={}))

    def go_on(self) -> None:
        """The model gets worse, a better one is tried, and somebody asks for yet another."""
        wait_for(lambda: is_ready(self._get("ModelMonitor")), what="a Ready monitor")
        config = monitor_config(self.api.get("CronJob", self.namespace, NAME))
        drift = CheckResult(name="Drift", state="OK", message="", value=0.02, limit=0.2)
        windows = [replace(item, checks=(*item.checks, drift)) for item in breached_windows(config)]
        patch_windows(self.api, self.namespace, NAME, windows)
        wait_for(lambda: number_of(self._get("ModelTraining"), "champion") == 2, 60, what="the retrain")
        annotation = {"metadata": {"annotations": {RUN_ANNOTATION: "again"}}}
        self.api.patch("ModelTraining", self.namespace, NAME, annotation)
        wait_for(lambda: self._rollout().get("checks"), 60, what="a look at the candidate")
        wait_for(self.trainer_pods, 60, what="a trainer at work")

    def pods(self) -> list[Object]:
        """Everything that runs here."""
        return self.api.list("Pod", self.namespace, SELECTOR)

    def server_pods(self, number: int) -> list[Object]:
        """Of a version."""
        label = digest_label(digest_of(number))
        return [pod for pod in self.pods() if pod["metadata"]["labels"].get(DIGEST) == label]

    def trainer_pods(self) -> list[Object]:
        """Of the run under way, once they have an address."""
        pods = [pod for pod in self.pods() if pod["metadata"]["labels"].get(RUN) == str(UNENDING)]
        return [pod for pod in pods if "podIP" in pod["status"]]

    def _get(self, kind: str) -> Object:
        return self.api.get(kind, self.namespace, NAME)

    def _rollout(self) -> Object:
        found: Object = self._get("ModelDeployment").get("status", {}).get("rollout") or {}
        return found


@pytest.fixture
def scene(
    api: Api, node: Node, background: Background, namespace: str, operator: Callable[..., OperatorProcess]
) -> Iterator[tuple[Scene, OperatorProcess]]:
    """The scene, once it is set, and the operator."""
    hindrance = find_hindrance()
    if hindrance and not os.environ.get("CI"):
        pytest.skip(hindrance)
    reporters = Reporters(api, background, namespace, NAME, [digest_of(1), digest_of(2)])
    node.play(namespace, _with_reports(reporters, play_trainers()))
    made = Scene(api, namespace)
    made.begin()
    process = operator(overrides=SHORT)
    made.go_on()
    yield made, process
    reporters.close()


def _with_reports(reporters: Reporters, program: Program) -> Program:
    served = reporters.play(program)
    return lambda pod: served(pod) if DIGEST in pod["metadata"]["labels"] else program(pod)


class Servers:
    """Two versions that share requests, and a regression."""

    def __init__(self, stack: ExitStack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = folder / "store"
        store = Store.open(StoreConfig(uri=f"file://{root}"), {})
        edges = {"predictions": {"edges": [50.0, 100.0, 150.0, 200.0, 300.0]}}
        numbers = replace(diabetes(), files=diabetes().files | {PROFILE: json.dumps(edges).encode()})
        versions = [store_example(store, example) for example in (cancer(), newer_cancer(), numbers)]
        self._path = folder / "route.json"
        monkeypatch.setenv("MODELLOOP_ROUTE", str(self._path))

        def start(name: str, index: int, model: str) -> Pod:
            return stack.enter_context(running_pod(server_config(root, versions[index], model), folder, name))

        self.stable, self.newer = start("stable", 0, "cancer"), start("newer", 1, "cancer")
        self.regression = start("regression", 2, REGRESSION)
        old, new = versions[0].digest, versions[1].digest
        peer = PeerConfig(number=4, http=place_of(self.newer), grpc=f"127.0.0.1:{self.newer.grpc_port}")
        rule = RuleConfig(other=new, weight=50, compare=100, timeout_seconds=10.0)
        self._path.write_text(dumps(RouteConfig(revision="1", measurement="m", peers={new: peer}, rules={old: rule})))
        wait_until(lambda: httpx.get(f"{self.stable.url}/rollout").json()["revision"] == "1")

    def ask(self) -> None:
        """Good requests, bad ones, and labels."""
        for _ in range(8):
            answer = httpx.post(f"{self.stable.url}/predict", json={"features": cancer().values(2)}).raise_for_status()
            label = {"id": answer.json()["id"], "label": [0, 1]}
            httpx.post(f"{self.stable.url}/feedback", json=label).raise_for_status()
            httpx.post(f"{self.regression.url}/predict", json={"features": diabetes().values(3)}).raise_for_status()
        assert httpx.post(f"{self.stable.url}/predict", json={"features": []}).status_code == httpx.codes.BAD_REQUEST


def place_of(pod: Pod) -> str:
    """Host and port."""
    return pod.url.removeprefix("http://")


def build_operator_pod(process: OperatorProcess) -> Object:
    """As the installation makes it."""
    template = yaml.safe_load((INSTALL / "deployment.yaml").read_text())["spec"]["template"]
    (pairs,) = yaml.safe_load((INSTALL / "kustomization.yaml").read_text())["labels"]
    labels = template["metadata"]["labels"] | pairs["pairs"]
    metadata = {"name": process.pod_name, "namespace": "modelloop-system", "labels": labels}
    return {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Running", "podIP": "127.0.0.1"}}


def like(pod: Object, name: str, model: str) -> Object:
    """The pod of another ModelDeployment."""
    labels = pod["metadata"]["labels"] | {"modelloop.dev/deployment": model}
    return pod | {"metadata": pod["metadata"] | {"name": name, "labels": labels}}


def find_queries(namespace: str, model: str) -> dict[str, str]:
    """What a person who looks at `model` has Grafana ask."""
    filled = FILLED | {"$namespace": namespace, "$model": model, "$training": NAME}
    boards = [find(name, filled) for name in DASHBOARDS for find in (find_panel_queries, find_variable_queries)]
    return {query.place: query.expression for queries in boards for query in queries}


def test_every_query_of_dashboards_and_rules_finds_data(
    scene: tuple[Scene, OperatorProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, operator = scene
    progress = Progress()
    progress.enter("Searching")
    with ExitStack() as stack:
        servers = Servers(stack, tmp_path, monkeypatch)
        trainer_port = stack.enter_context(served_metrics(progress, 0))
        (stable,), (newer,), (trainer,) = story.server_pods(1), story.server_pods(2), story.trainer_pods()
        regression = like(stable, "regression", REGRESSION)
        addresses = {
            operator.pod_name: f"127.0.0.1:{operator.port}",
            stable["metadata"]["name"]: place_of(servers.stable),
            newer["metadata"]["name"]: place_of(servers.newer),
            regression["metadata"]["name"]: place_of(servers.regression),
            trainer["metadata"]["name"]: f"127.0.0.1:{trainer_port}",
        }
        pods = [*story.pods(), regression, build_operator_pod(operator)]
        committed = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
        config = {
            "global": {"evaluation_interval": "500ms"},
            "rule_files": [str(RULES)],
            "scrape_configs": build_scraping(committed, pods, addresses, tmp_path),
        }
        prometheus = PrometheusProcess(folder=tmp_path, config=config)
        stack.callback(prometheus.kill)
        prometheus.start()
        wait_for(lambda: len(prometheus.read("up == 1")) == len(addresses), what="every pod being scraped")
        require_targets(prometheus, story.namespace)
        for _ in range(ROUNDS):
            servers.ask()
            missing = find_missing(prometheus, story.namespace)
            if not missing:
                break
            time.sleep(1.0)
        assert not missing
        require_sound_rules(prometheus)
        require_alerts(prometheus)


def require_targets(prometheus: PrometheusProcess, namespace: str) -> None:
    """Pods have the labels that rules and dashboards read, and no other pod is asked."""
    targets = [target["labels"] for target in get(prometheus, "targets")["activeTargets"]]
    found = {(item["job"], item["namespace"], item.get("model") or item.get("training")) for item in targets}
    assert found == {
        ("modelloop-operator", "modelloop-system", None),
        ("modelloop-servers", namespace, NAME),
        ("modelloop-servers", namespace, REGRESSION),
        ("modelloop-trainers", namespace, NAME),
    }
    digests = {item["version_digest"] for item in targets if item["job"] == "modelloop-servers"}
    assert digests == {digest_label(digest_of(1)), digest_label(digest_of(2))}
    assert {item["run"] for item in targets if item["job"] == "modelloop-trainers"} == {str(UNENDING)}
    told = prometheus.ask("query", query='modelloop_condition{kind="ModelDeployment", type="Available"}')["result"]
    assert {series["metric"]["namespace"] for series in told} == {namespace}, "the operator's own labels count"


def find_missing(prometheus: PrometheusProcess, namespace: str) -> list[str]:
    """The panels and recording rules without any data."""
    pages = [find_queries(namespace, model) for model in (NAME, REGRESSION)]
    recorded = [Query(rule["record"], rule["record"]) for rule in read_rules() if "record" in rule]
    pages[0] |= {query.place: query.expression for query in recorded}
    return [place for place in pages[0] if not any(prometheus.read(page[place]) for page in pages if place in page)]


def require_sound_rules(prometheus: PrometheusProcess) -> None:
    """Every rule was evaluated without an error, by Prometheus itself and when it is asked."""
    rules = [rule for group in get(prometheus, "rules")["groups"] for rule in group["rules"]]
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    assert len(rules) == len(read_rules())
    for query in find_rule_queries():
        prometheus.read(query.expression)


def require_alerts(prometheus: PrometheusProcess) -> None:
    """What is wrong in this scene is told, and nothing else."""
    firing = [alert["labels"] for alert in get(prometheus, "alerts")["alerts"] if alert["state"] == "firing"]
    found = {labels["alertname"] for labels in firing}
    assert found == {"ModelLoopQualityBreached"}


def get(prometheus: PrometheusProcess, path: str) -> Any:
    """What Prometheus tells of itself."""
    return httpx.get(f"{prometheus.address}/api/v1/{path}", trust_env=False).raise_for_status().json()["data"]
