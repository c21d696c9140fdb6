"""Prometheus is told to scrape the pods that the operator makes, both ways alike."""

from typing import Any

import pytest
import yaml

from modelloop.api.common import VersionStatus
from modelloop.api.training import Trigger
from modelloop.desired.deployment import build_server
from modelloop.desired.training import begin_run, build_job
from modelloop.desired.workers import build_worker_job
from tests.cluster.cluster_discovery import find_selected
from tests.unit.observability.observed_queries import MONITORING
from tests.unit.operator_tests.operator_states import (
    NOW,
    SETTINGS,
    UID,
    deployment_spec,
    digest_of,
    training_spec,
)

Object = dict[str, Any]
MONITORS = {item["metadata"]["name"]: item for item in yaml.safe_load_all((MONITORING / "monitors.yaml").read_text())}
JOBS = {job["job_name"]: job for job in yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]}
BY_ITSELF = {"__meta_kubernetes_namespace", "__meta_kubernetes_pod_name", "__meta_kubernetes_pod_phase"}
"""What the Prometheus operator makes of namespace, name and phase without being told."""


def pod_of(template: Object) -> Object:
    metadata = template["metadata"] | {"name": "pod", "namespace": "team"}
    return {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Running", "podIP": "10.0.0.1"}}


def build_pods() -> dict[str, Object]:
    """By the job that should scrape it; empty: none should."""
    name: Any = {"namespace": "team", "name": "cancer", "uid": UID}
    version = VersionStatus(number=1, path="models/team/cancer/1-0a1b2c3d", digest=digest_of(1))
    server = build_server(deployment_spec(), version, **name, settings=SETTINGS)
    spec, trigger = training_spec(), Trigger(reason="Created")
    run = begin_run(spec, **name, number=1, trigger=trigger, champion=None, feedback=None, now=NOW)
    job = build_job(spec, run, **name, settings=SETTINGS)
    worker = build_worker_job(job, 2, suspend=False)
    return {
        "modelloop-servers": pod_of(server["spec"]["template"]),
        "modelloop-trainers": pod_of(job["spec"]["template"]),
        "": pod_of(worker["spec"]["template"]),
    }


@pytest.mark.parametrize("job", ["modelloop-servers", "modelloop-trainers"])
def test_the_pods_of_a_component_are_selected_and_no_others(job: str) -> None:
    pods = build_pods()
    (discovery,) = JOBS[job]["kubernetes_sd_configs"]
    assert find_selected(discovery, list(pods.values())) == [pods[job]]
    selector = MONITORS[job]["spec"]["selector"]["matchLabels"]
    assert [name for name, pod in pods.items() if selector.items() <= pod["metadata"]["labels"].items()] == [job]


@pytest.mark.parametrize("job", ["modelloop-servers", "modelloop-trainers"])
def test_labels_ports_and_annotations_that_are_asked_for_are_there(job: str) -> None:
    pod = build_pods()[job]
    named = {f"pod_label_{key}" for key in pod["metadata"]["labels"]}
    named |= {f"pod_annotation_{key}" for key in pod["metadata"].get("annotations", {})}
    there = {f"__meta_kubernetes_{name}".translate(str.maketrans("./-", "___")) for name in named}
    there |= BY_ITSELF | {"__meta_kubernetes_pod_container_port_name"}
    asked = {label for rule in JOBS[job]["relabel_configs"] for label in rule["source_labels"]}
    assert asked <= there
    ports = [port["name"] for container in pod["spec"]["containers"] for port in container["ports"]]
    (endpoint,) = MONITORS[job]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in ports
    keep = [rule["regex"] for rule in JOBS[job]["relabel_configs"] if rule.get("action") == "keep"]
    assert keep == [endpoint["port"]]


@pytest.mark.parametrize("job", JOBS)
def test_the_prometheus_operator_gives_the_same_labels(job: str) -> None:
    spec = MONITORS[job]["spec"]
    (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
    name, *relabelings = endpoint["relabelings"]
    assert name == {"targetLabel": "job", "replacement": job}
    told = [
        {"source_labels": rule["sourceLabels"], "target_label": rule["targetLabel"]}
        | ({"regex": rule["regex"]} if "regex" in rule else {})
        for rule in relabelings
    ]
    rules = [rule for rule in JOBS[job]["relabel_configs"] if "target_label" in rule]
    assert told == [rule for rule in rules if not BY_ITSELF & set(rule["source_labels"])]
    assert endpoint.get("honorLabels", False) == JOBS[job].get("honor_labels", False)
