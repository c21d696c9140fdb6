"""What the operator tells Prometheus of each custom resource: its status as numbers, read when it is scraped.

Pods of monitors and trainers are gone before anybody scrapes them; their results stay in status, and this is where they
become series. A series ends with its object. Labels are names of objects and words of the API, never feature values.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from modelkit.contract.result import CHECK_STATES
from modelloop.api.common import parse_duration
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.parse import EPOCH, Object, parse_timestamp
from modelloop.decide.cron import CronError, parse_cron
from modelloop.desired.names import digest_label

KINDS = ("ModelTraining", "ModelDeployment", "ModelMonitor")
STATUS_VALUES = {"True": 1.0, "False": 0.0, "Unknown": -1.0}
ROLES = ("stable", "candidate", "previous")

States = Mapping[str, Mapping[Key, Object]]
"""Custom resources by kind and key."""
Sample = tuple[str, tuple[str, ...], float]
"""Name of a metric without its prefix, the values of its labels, and the value."""


@dataclass(frozen=True, slots=True)
class StateMetric:
    """A metric that follows from the status of objects."""

    text: str
    labels: tuple[str, ...]
    is_counter: bool = False


_MODEL, _TRAINING = ("namespace", "model"), ("namespace", "training")
_MONITOR = ("namespace", "monitor", "model")
METRICS = {
    "condition": StateMetric(
        "Conditions: 1 for True, 0 for False, -1 for Unknown.", ("kind", "namespace", "name", "type", "reason")
    ),
    "deployment_info": StateMetric("The training that a deployment follows; always 1.", (*_MODEL, "training")),
    "deployment_version": StateMetric("Numbers of the versions in play.", (*_MODEL, "role", "version_digest")),
    "deployment_replicas": StateMetric("Pods of the version that serves.", _MODEL),
    "deployment_ready_replicas": StateMetric("Pods of the version that serves that are Ready.", _MODEL),
    "rollout_weight": StateMetric("Per cent of the requests that a candidate answers.", _MODEL),
    "rollout_check_value": StateMetric("What a check of the rollout under way found.", (*_MODEL, "check")),
    "rollout_check_limit": StateMetric("What it allows.", (*_MODEL, "check")),
    "rollout_check_verdict": StateMetric("1 for its verdict.", (*_MODEL, "check", "verdict")),
    "rollout_end_timestamp_seconds": StateMetric("When a rollout last ended so.", (*_MODEL, "result")),
    "training_running": StateMetric("1 while a run is under way.", _TRAINING),
    "training_champion_version": StateMetric("Number of the champion.", _TRAINING),
    "training_champion_score": StateMetric("The champion's primary metric, on its test.", (*_TRAINING, "metric")),
    "training_run_end_timestamp_seconds": StateMetric("When a run last ended so.", (*_TRAINING, "verdict")),
    "training_last_run_seconds": StateMetric("How long the newest run took.", _TRAINING),
    "training_cpu_seconds": StateMetric("CPU time of all runs.", _TRAINING, is_counter=True),
    "training_memory_gib_seconds": StateMetric("Memory of all runs, by time.", _TRAINING, is_counter=True),
    "training_energy_watt_hours": StateMetric("Energy of all runs.", _TRAINING, is_counter=True),
    "training_co2e_grams": StateMetric("Emissions of all runs.", _TRAINING, is_counter=True),
    "training_price": StateMetric("Price of all runs, where spec.costs states one.", _TRAINING, is_counter=True),
    "training_budget_used_ratio": StateMetric("Share of spec.budget that its window's runs used.", _TRAINING),
    "monitor_window_end_timestamp_seconds": StateMetric("End of the newest window.", _MONITOR),
    "monitor_next_window_timestamp_seconds": StateMetric("When the schedule wants the next one.", _MONITOR),
    "monitor_window_rows": StateMetric("Rows of the served version's newest window.", _MONITOR),
    "monitor_window_labels": StateMetric("Labelled rows of it.", _MONITOR),
    "monitor_check_value": StateMetric("What a check of it found.", (*_MONITOR, "check")),
    "monitor_check_limit": StateMetric("What it allows.", (*_MONITOR, "check")),
    "monitor_check_state": StateMetric("1 for its state, 0 for the others.", (*_MONITOR, "check", "state")),
    "monitor_retrains": StateMetric("Retrains that it asked for.", _MONITOR, is_counter=True),
}


def copy_states(cache: Cache) -> States:
    """What there is now, to be rendered beside the event loop: bodies in the cache are replaced, never changed."""
    return {kind: dict(cache.all(kind)) for kind in KINDS}


def render_states(states: States, now: datetime) -> bytes:
    """The page of `states` in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(StateCollector(states, now))
    return generate_latest(registry)


class StateCollector(Collector):
    """Shows one moment's objects to a scrape."""

    def __init__(self, states: States, now: datetime) -> None:
        self._states, self._now = states, now

    def collect(self) -> Iterator[Any]:
        """See prometheus_client.registry.Collector."""
        families = {
            name: (CounterMetricFamily if metric.is_counter else GaugeMetricFamily)(
                f"modelloop_{name}", metric.text, labels=metric.labels
            )
            for name, metric in METRICS.items()
        }
        for name, labels, value in read_samples(self._states, self._now):
            families[name].add_metric(labels, value)
        yield from families.values()


def read_samples(states: States, now: datetime) -> Iterator[Sample]:
    """Everything that is told of all objects."""
    for kind in KINDS:
        for key, body in states.get(kind, {}).items():
            for condition in body.get("status", {}).get("conditions", ()):
                labels = (kind, key.namespace, key.name, condition["type"], condition["reason"])
                yield "condition", labels, STATUS_VALUES[condition["status"]]
    for key, body in states.get("ModelTraining", {}).items():
        yield from _read_training(key, body, now)
    deployments = states.get("ModelDeployment", {})
    for key, body in deployments.items():
        yield from _read_deployment(key, body)
    for key, body in states.get("ModelMonitor", {}).items():
        model = Key("ModelDeployment", key.namespace, body["spec"]["deploymentRef"]["name"])
        yield from _read_monitor(key, body, model.name, deployments.get(model, {}).get("status", {}).get("stable"))


def _read_training(key: Key, body: Object, now: datetime) -> Iterator[Sample]:
    status, labels = body.get("status", {}), (key.namespace, key.name)
    history, total, champion = status.get("history", ()), status.get("total") or {}, status.get("champion")
    yield "training_running", labels, float(bool(status.get("run")))
    if champion:
        yield "training_champion_version", labels, champion["number"]
        yield "training_champion_score", (*labels, champion["metric"]), champion["value"]
    for verdict, end in _find_ends(history, "verdict", "completionTime"):
        yield "training_run_end_timestamp_seconds", (*labels, verdict), end
    if history:
        took = parse_timestamp(history[0]["completionTime"]) - parse_timestamp(history[0]["startTime"])
        yield "training_last_run_seconds", labels, took.total_seconds()
    for name, field in (
        ("cpu_seconds", "cpuSeconds"),
        ("memory_gib_seconds", "memoryGibSeconds"),
        ("energy_watt_hours", "energyWattHours"),
        ("co2e_grams", "co2eGrams"),
    ):
        yield f"training_{name}", labels, total.get(field, 0.0)
    if total.get("price") is not None:
        yield "training_price", labels, total["price"]
    if budget := body.get("spec", {}).get("budget"):
        since = now - parse_duration(budget["window"])
        used = sum(item["cpuSeconds"] for item in status.get("spent", ()) if parse_timestamp(item["time"]) > since)
        yield "training_budget_used_ratio", labels, used / timedelta(hours=budget["cpuHours"]).total_seconds()


def _read_deployment(key: Key, body: Object) -> Iterator[Sample]:
    status, labels = body.get("status", {}), (key.namespace, key.name)
    training = (body.get("spec", {}).get("trainingRef") or {}).get("name", "")
    rollout = status.get("rollout") or {}
    yield "deployment_info", (*labels, training), 1.0
    for role in ROLES:
        if version := status.get(role):
            found = (*labels, role, digest_label(version["digest"]))
            yield "deployment_version", found, version["number"]
    yield "deployment_replicas", labels, status.get("replicas", 0)
    yield "deployment_ready_replicas", labels, status.get("readyReplicas", 0)
    yield "rollout_weight", labels, rollout.get("weight", 0.0)
    for check in rollout.get("checks", ()):
        yield from _read_numbers("rollout", (*labels, check["name"]), check)
        yield "rollout_check_verdict", (*labels, check["name"], check["verdict"]), 1.0
    for result, end in _find_ends(status.get("history", ()), "result", "endTime"):
        yield "rollout_end_timestamp_seconds", (*labels, result), end


def _read_monitor(key: Key, body: Object, model: str, stable: Object | None) -> Iterator[Sample]:
    spec, status, labels = body["spec"], body.get("status", {}), (key.namespace, key.name, model)
    windows = sorted(status.get("windows", ()), key=_end_of)
    yield "monitor_retrains", labels, status.get("retrains", 0)
    if windows:
        yield "monitor_window_end_timestamp_seconds", labels, _end_of(windows[-1]).timestamp()
    if stable and not spec.get("suspend"):
        begun = (parse_timestamp(body["metadata"].get("creationTimestamp")), parse_timestamp(stable["since"]))
        due = _find_next(spec, max(*begun, _end_of(windows[-1]) if windows else EPOCH))
        if due is not None:
            yield "monitor_next_window_timestamp_seconds", labels, due.timestamp()
    # What was found of another version says nothing of the one that serves.
    own = [window for window in windows if stable and window["digest"] == stable["digest"]]
    for window in own[-1:]:
        yield "monitor_window_rows", labels, window["rows"]
        yield "monitor_window_labels", labels, window["labels"]
        for check in window.get("checks", ()):
            yield from _read_numbers("monitor", (*labels, check["name"]), check)
            for state in CHECK_STATES:
                yield "monitor_check_state", (*labels, check["name"], state), float(check["state"] == state)


def _read_numbers(prefix: str, labels: tuple[str, ...], check: Object) -> Iterator[Sample]:
    for field in ("value", "limit"):
        if check.get(field) is not None:
            yield f"{prefix}_check_{field}", labels, check[field]


def _find_ends(records: Iterable[Object], label: str, time: str) -> Iterator[tuple[str, float]]:
    """By how records ended, when the newest of them did."""
    ends: dict[str, float] = {}
    for record in records:
        ends[record[label]] = max(parse_timestamp(record[time]).timestamp(), ends.get(record[label], 0.0))
    yield from ends.items()


def _end_of(window: Object) -> datetime:
    return parse_timestamp(window["end"])


def _find_next(spec: Object, after: datetime) -> datetime | None:
    try:
        return parse_cron(spec["schedule"], spec.get("timeZone")).next(after)
    except CronError:
        return None  # Kubernetes refuses the CronJob, and the monitor's conditions say so.
