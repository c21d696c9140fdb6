"""What a run is made of, and which changes of a spec make a new one."""

import json
from datetime import timedelta
from typing import Any

import pytest

from modelkit.contract.codec import loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import CONFIG
from modelloop.api.common import Storage
from modelloop.api.training import (
    Candidate,
    ChampionStatus,
    DataSource,
    Feedback,
    Gate,
    ModelTrainingSpec,
    Preprocessing,
    RunStatus,
    Trigger,
    Tuning,
)
from modelloop.desired.recipe import primary_metric
from modelloop.desired.training import (
    MAX_CONFIG_BYTES,
    begin_run,
    build_job,
    data_claim,
    find_spec_problem,
    pod_hash,
    spec_hash,
)
from tests.unit.operator_tests.operator_states import NOW, SETTINGS, UID, digest_of, training_spec

CHANGES: dict[type, dict[str, tuple[str, Any]]] = {
    ModelTrainingSpec: {
        "data": ("result", {"uri": "builtin://wine", "target": "target"}),
        "candidates": ("result", [{"estimator": "SVC"}]),
        "gates": ("result", [{"metric": "f1", "min": 0.8}]),
        "task": ("result", "Classification"),
        "metric": ("result", "accuracy"),
        "validation": ("result", {"duplicates": "Fail"}),
        "split": ("result", {"method": "Random"}),
        "preprocessing": ("result", {"scaling": "None"}),
        "feature_selection": ("result", {"method": "RFE"}),
        "tuning": ("result", {"method": "Grid"}),
        "cross_validation": ("result", {"repeats": 2}),
        "slices": ("result", [{"name": "old", "column": "age", "min": 60}]),
        "explain": ("result", {"shapRows": 10}),
        "compress": ("result", {"methods": ["Pruning"], "maxDrop": 0.01}),
        "folds": ("result", 3),
        "test_fraction": ("result", 0.3),
        "seed": ("result", 1),
        "storage": ("result", {"uri": "pvc://other"}),
        "prepare": ("result", {"image": "example/etl:1"}),
        "command": ("result", ["python", "train.py"]),
        "args": ("result", ["--fast"]),
        "params": ("result", {"depth": 3}),
        "sign": ("result", {"secretName": "keys"}),
        "image": ("pod", "example/other:1"),
        "resources": ("pod", {"limits": {"memory": "1Gi"}}),
        "retries": ("pod", 0),
        "deadline": ("pod", "1h"),
        "node_selector": ("pod", {"disk": "ssd"}),
        "tolerations": ("pod", [{"operator": "Exists"}]),
        "affinity": ("pod", {"nodeAffinity": {}}),
        "priority_class_name": ("pod", "low"),
        "runtime_class_name": ("pod", "nvidia"),
        "queue_name": ("pod", "team"),
        "schedule": ("nothing", "0 3 * * *"),
        "time_zone": ("nothing", "Europe/Berlin"),
        "suspend": ("nothing", True),
        "approval": ("nothing", "Manual"),
        "history_limit": ("nothing", 3),
        "deletion_policy": ("nothing", "Delete"),
        "budget": ("nothing", {"cpuHours": 1}),
        "costs": ("nothing", {"wattsPerCpu": 5}),
    },
    DataSource: {
        "uri": ("result", "builtin://wine"),
        "target": ("result", "other"),
        "features": ("result", ["a"]),
        "secret_ref": ("result", {"name": "keys"}),
        "format": ("result", "CSV"),
        "columns": ("result", [{"name": "zip", "type": "Category"}]),
        "weight": ("result", "w"),
        "group": ("result", "customer"),
        "time": ("result", "day"),
    },
    Candidate: {
        "estimator": ("result", "SVC"),
        "params": ("result", {"C": 2}),
        "search": ("result", [{"name": "C", "type": "Choice", "values": [1, 2]}]),
    },
    Tuning: {
        "method": ("result", "Grid"),
        "trials": ("result", 3),
        "time_limit": ("result", "1h"),
        "patience": ("result", 5),
        "parallelism": ("pod", 4),
    },
    Gate: {
        "metric": ("result", "accuracy"),
        "slice": ("result", "old"),
        "min": ("result", 0.8),
        "max": ("result", 0.99),
        "max_drop": ("result", 0.01),
        "confidence": ("result", 0.9),
    },
    Preprocessing: {"scaling": ("result", "None"), "imputation": ("result", "Mean")},
    Storage: {"uri": ("result", "pvc://other"), "secret_ref": ("result", {"name": "keys"})},
}
PLACES = {
    DataSource: "data",
    Candidate: "candidates",
    Gate: "gates",
    Preprocessing: "preprocessing",
    Tuning: "tuning",
    Storage: "storage",
}
BASE = {
    "data": {"uri": "builtin://breast_cancer", "target": "target"},
    "candidates": [{"estimator": "LogisticRegression"}],
    "gates": [{"metric": "f1", "min": 0.9}],
}


def changed(model: type, field: str, value: Any) -> ModelTrainingSpec:
    """The base spec with one field of one model changed."""
    camel = ModelTrainingSpec.model_config["alias_generator"](field)  # type: ignore[operator]
    if model is ModelTrainingSpec:
        return training_spec(**{camel: value})
    place = PLACES[model]
    base = BASE.get(place, {})
    part = [base[0] | {camel: value}] if isinstance(base, list) else base | {camel: value}
    return training_spec(**{place: part})


def test_every_field_of_the_spec_is_classified() -> None:
    assert set(CHANGES[ModelTrainingSpec]) == set(ModelTrainingSpec.model_fields), "say what the new field changes"


@pytest.mark.parametrize(
    ("model", "field"), [(model, field) for model, fields in CHANGES.items() for field in fields], ids=str
)
def test_the_spec_hash_changes_with_what_changes_the_result_and_the_pod_hash_with_the_rest(
    model: type, field: str
) -> None:
    effect, value = CHANGES[model][field]
    spec, base = changed(model, field, value), training_spec()
    assert (spec_hash(spec) != spec_hash(base)) == (effect == "result")
    assert (pod_hash(spec) != pod_hash(base)) == (effect == "pod")


def test_a_default_that_is_written_out_changes_no_hash() -> None:
    spec = training_spec(seed=0, folds=5, storage={"uri": "pvc://modelloop-store"}, preprocessing={}, retries=2)
    assert spec_hash(spec) == spec_hash(training_spec())
    assert pod_hash(spec) == pod_hash(training_spec())


def test_a_hash_does_not_depend_on_the_order_of_parameters() -> None:
    first = training_spec(candidates=[{"estimator": "SVC", "params": {"C": 1, "gamma": 2}}])
    second = training_spec(candidates=[{"estimator": "SVC", "params": {"gamma": 2, "C": 1}}])
    assert spec_hash(first) == spec_hash(second)


def run_of(spec: ModelTrainingSpec, **fields: Any) -> RunStatus:
    known: dict[str, Any] = {
        "namespace": "team",
        "name": "cancer",
        "uid": UID,
        "number": 3,
        "trigger": Trigger(reason="Created"),
        "champion": None,
        "feedback": None,
        "now": NOW,
    }
    return begin_run(spec, **(known | fields))


def config_of(run: RunStatus) -> TrainerConfig:
    return loads(TrainerConfig, run.config)


def test_the_configuration_says_all_of_the_spec() -> None:
    feedback = Feedback(deployment="cancer", since=NOW - timedelta(hours=1), until=NOW, policy="Window")
    champion = ChampionStatus(
        number=2, path="models/x", digest=digest_of(2), metric="f1", value=0.9, spec_hash="x", approved_time=NOW
    )
    spec = training_spec(
        data={"uri": "pvc://data/a/b.csv", "target": "y", "features": ["a", "ü"]},
        candidates=[{"estimator": "SVC", "params": {"C": 1.5, "class_weight": {"0": 1}}}],
        gates=[{"metric": "accuracy", "maxDrop": 0.1, "confidence": 0.9}, {"metric": "f1", "min": 0.5}],
        storage={"uri": "s3://bucket/prefix", "secretRef": {"name": "keys"}},
        preprocessing={"scaling": "Robust", "imputation": "Mean"},
        seed=7,
        folds=3,
        testFraction=0.3,
        task="Classification",
    )
    config = config_of(run_of(spec, feedback=feedback, champion=champion))
    assert config.store.uri == "s3://bucket/prefix"
    assert config.data.uri == "file:///var/lib/modelloop/data/data/a/b.csv"
    assert (config.data.display_uri, config.data.target, config.data.features) == (
        "pvc://data/a/b.csv",
        "y",
        ("a", "ü"),
    )
    assert config.candidates[0].params == {"C": 1.5, "class_weight": {"0": 1}}
    assert {item.metric: item.confidence for item in config.comparisons} == {"accuracy": 0.9, "f1": 0.95}
    assert (config.metric, config.task, config.seed, config.folds) == ("f1", "Classification", 7, 3)
    assert config.test_fraction == 0.3
    assert (config.preprocessing.scaling, config.preprocessing.imputation) == ("Robust", "Mean")
    assert config.champion is not None
    assert config.champion.digest == digest_of(2)
    assert config.feedback is not None
    assert (config.feedback.policy, config.feedback.until) == ("Window", NOW)
    assert config.version.startswith("3-")


@pytest.mark.parametrize(
    ("fields", "metric"),
    [
        ({}, "f1"),
        ({"metric": "roc_auc"}, "roc_auc"),
        ({"gates": [{"metric": "f1", "maxDrop": 0.1}, {"metric": "accuracy", "min": 0.1}]}, "accuracy"),
        ({"gates": []}, "f1"),
        ({"gates": [], "candidates": [{"estimator": "Ridge"}]}, "rmse"),
    ],
    ids=["the first gate's", "stated", "the first gate's on a value", "of classification", "of regression"],
)
def test_the_primary_metric(fields: dict[str, Any], metric: str) -> None:
    assert primary_metric(training_spec(**fields)) == metric


def test_a_run_is_the_same_whenever_it_is_built_and_another_for_another_number_or_uid() -> None:
    spec = training_spec()
    assert run_of(spec) == run_of(spec)
    jobs = {run_of(spec).job, run_of(spec, number=4).job, run_of(spec, uid="other").job}
    assert len(jobs) == 3


def build(spec: ModelTrainingSpec, run: RunStatus) -> dict[str, Any]:
    return build_job(spec, run, namespace="team", name="cancer", uid=UID, settings=SETTINGS)


def test_the_job_gives_up_on_refusals_and_does_not_count_evictions() -> None:
    job = build(training_spec(retries=4), run_of(training_spec(retries=4)))
    assert job["spec"]["backoffLimit"] == 4
    ignore, stopped, fail = job["spec"]["podFailurePolicy"]["rules"]
    assert (stopped["action"], stopped["onExitCodes"]["values"]) == ("Ignore", [143])
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert fail["onExitCodes"]["values"] == [2]
    assert fail["onExitCodes"]["containerName"] == job["spec"]["template"]["spec"]["containers"][0]["name"]
    assert "ttlSecondsAfterFinished" not in job["spec"], "only after its result is latched"


def test_the_job_mounts_the_store_of_its_run_and_its_data() -> None:
    spec = training_spec(
        data={"uri": "pvc://rows/a.csv", "target": "y"}, storage={"uri": "pvc://models"}, image="example/own:1"
    )
    pod = build(spec, run_of(spec))["spec"]["template"]["spec"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == {"store": "models", "data": "rows"}
    (container,) = pod["containers"]
    assert container["image"] == "example/own:1"
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["data"]["mountPath"] == "/var/lib/modelloop/data/rows"
    assert mounts["data"]["readOnly"] is True


def test_secrets_are_mounted_by_name_and_never_read() -> None:
    spec = training_spec(
        data={"uri": "s3://rows/a.csv", "target": "y", "secretRef": {"name": "data-keys"}},
        storage={"uri": "s3://models/x", "secretRef": {"name": "store-keys"}},
    )
    (container,) = build(spec, run_of(spec))["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [
        {"prefix": "MODELLOOP_STORE_", "secretRef": {"name": "store-keys"}},
        {"prefix": "MODELLOOP_DATA_", "secretRef": {"name": "data-keys"}},
    ]


def test_the_job_carries_the_configuration_that_its_run_was_begun_with() -> None:
    run = run_of(training_spec())
    job = build(training_spec(seed=99), run)
    environment = {
        entry["name"]: entry.get("value") for entry in job["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment[CONFIG] == run.config


def test_a_data_address_names_its_claim() -> None:
    assert data_claim("pvc://rows/a/b.csv") == "rows"
    assert data_claim("s3://rows/a/b.csv") is None
    assert data_claim("builtin://iris") is None


@pytest.mark.parametrize("letter", ["a", "ü", '"'], ids=["ASCII", "other letters", "quotes"])
def test_a_spec_without_a_problem_always_fits_the_status_and_the_pod(letter: str) -> None:
    largest = None
    for count in range(10, 400, 10):
        features = [f"{letter * 200}{n}" for n in range(count)]
        spec = training_spec(data={"uri": "builtin://iris", "target": "y", "features": features})
        if find_spec_problem(spec):
            assert str(MAX_CONFIG_BYTES) in find_spec_problem(spec)
            break
        largest = run_of(spec)
    assert largest is not None
    assert len(largest.config) <= 65_536
    json.loads(largest.config)
