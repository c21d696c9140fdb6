"""Every constraint of the three kinds, from both sides, on a real API server."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from devcluster.cluster import Cluster
from tests.cluster import crd_custom_rules, crd_recipe_rules, crd_rollout_rules, crd_serving_rules
from tests.cluster.cluster_api import Api, ApiError, Object
from tests.cluster.cluster_loop import deployment, monitor, training
from tests.cluster.crd_cases import BASES, NAMESPACE, cases_of, read_spec_schema, walk, with_value

pytestmark = pytest.mark.usefixtures("cluster")


def said(api: Api, body: Object) -> str:
    """What the API server says to a manifest; empty when it takes it."""
    try:
        api.create(body, dry_run=True)
    except ApiError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("kind", BASES)
def test_every_constraint_accepts_what_keeps_it_and_rejects_what_breaks_it(api: Api, kind: str) -> None:
    wrong = []
    cases = list(cases_of(kind))
    for case in cases:
        answer = said(api, case.body)
        if case.accepted and answer:
            wrong.append(f"{case.id}: must be accepted; {answer}")
        elif not case.accepted and case.path.split("[]")[-1].split("{}")[0].split(".")[-1] not in answer:
            wrong.append(f"{case.id}: must be rejected by name; {answer or 'accepted'}")
    assert not wrong, "\n".join(wrong)
    assert len(cases) > 40


# -- rules that span fields or explain a form -----------------------------------------------------------------------


def set_in(make: Callable[..., Object], **fields: Any) -> Object:
    """A good manifest with fields of its spec replaced; `__` stands for a dot."""
    body = make(NAMESPACE)
    for field, value in fields.items():
        body = with_value(body, field.replace("__", "."), value)
    return body


def data(uri: str, **fields: Any) -> Object:
    """A training on a source."""
    return training(NAMESPACE, data={"uri": uri, "target": "y", **fields})


def named(name: str) -> Object:
    """A training with a name."""
    return training(NAMESPACE, name)


DURATION = "must be a duration such as 90s, 15m or 24h"
CRON = "must be a cron expression of five fields such as */15 * * * *, or @hourly"
NAME = "metadata.name must be at most 52 lower-case letters, digits and dashes and start with a letter"
BUILTIN = "must name a data set of scikit-learn after builtin://: breast_cancer, diabetes, digits, iris, wine"
SECRET = "secretRef must be used with an s3:// uri only"
STORE = "must be pvc://<claim> or s3://<bucket>/<prefix>"
DNS_NAME = "must be a name of lower-case letters, digits and dashes such as my-model"
IMAGE = "must be an image such as registry.example.com/team/server:1.2"
QUANTITY = "must be a quantity such as 500m, 2 or 1Gi"
ALL_ONE = "candidates must be all classifiers or all regressors"
FOREST, RIDGE, LOGISTIC = ({"estimator": name} for name in ("RandomForestRegressor", "Ridge", "LogisticRegression"))

REJECTED: list[tuple[Object, str, str]] = [
    (named("a" * 53), "ModelTraining.metadata.name", NAME),
    (named("9lives"), "ModelTraining.metadata.name", NAME),
    (named("a.b"), "ModelTraining.metadata.name", NAME),
    (deployment(NAMESPACE, "a" * 53), "ModelDeployment.metadata.name", NAME),
    (deployment(NAMESPACE, "9lives"), "ModelDeployment.metadata.name", NAME),
    (monitor(NAMESPACE, "a" * 53), "ModelMonitor.metadata.name", NAME),
    (monitor(NAMESPACE, "9lives"), "ModelMonitor.metadata.name", NAME),
    (data("builtin://titanic"), "ModelTraining.spec.data.uri", BUILTIN),
    (data("builtin://iris?rows=1"), "ModelTraining.spec.data.uri", BUILTIN),
    (data("builtin://iris", features=["x", "y"]), "ModelTraining.spec.data", "features must not name the target"),
    (set_in(training, candidates=[LOGISTIC, RIDGE]), "ModelTraining.spec", ALL_ONE),
    (
        set_in(training, task="Classification", candidates=[RIDGE]),
        "ModelTraining.spec",
        "candidates must be classifiers when task is Classification",
    ),
    (
        set_in(training, task="Regression"),
        "ModelTraining.spec",
        "candidates must be regressors when task is Regression",
    ),
    (
        set_in(training, gates=[{"metric": "f1"}]),
        "ModelTraining.spec.gates[0]",
        "must set at least one of min, max and maxDrop",
    ),
    (
        set_in(training, gates=[{"metric": "f1", "min": 0.9, "max": 0.8}]),
        "ModelTraining.spec.gates[0]",
        "min must be at most max",
    ),
    (
        set_in(training, gates=[{"metric": "f1", "min": 0.9, "confidence": 0.95}]),
        "ModelTraining.spec.gates[0]",
        "confidence must be used with maxDrop",
    ),
    (set_in(training, storage__uri="gs://bucket"), "ModelTraining.spec.storage.uri", STORE),
    (set_in(training, storage__uri="pvc://claim/path"), "ModelTraining.spec.storage.uri", STORE),
    (set_in(training, storage__secretRef={"name": "s"}), "ModelTraining.spec.storage", SECRET),
    (
        set_in(deployment, service__nodePort=30080),
        "ModelDeployment.spec.service",
        "nodePort must be used with type NodePort",
    ),
    *((set_in(deployment, rollout__bakeTime=text), "ModelDeployment.spec.rollout.bakeTime", DURATION)
      for text in ("20", "1 m", "1d", "", "-5s", "5M")),
    (set_in(deployment, rollout__progressDeadline="soon"), "ModelDeployment.spec.rollout.progressDeadline", DURATION),
    *((set_in(monitor, schedule=text), "ModelMonitor.spec.schedule", CRON)
      for text in ("hourly", "* * * *", "* * * * * *", "", "@every 5m", "0  * * * *")),
    (set_in(monitor, window="5s"), "ModelMonitor.spec", "window must be at least 10s"),
    (set_in(monitor, window="a week"), "ModelMonitor.spec.window", DURATION),
    (
        set_in(monitor, alarm={"breaches": 4, "windows": 3}),
        "ModelMonitor.spec.alarm",
        "breaches must be at most windows",
    ),
    (set_in(monitor, retrain__lookback="1w"), "ModelMonitor.spec.retrain.lookback", DURATION),
    (set_in(monitor, retrain__cooldown="1w"), "ModelMonitor.spec.retrain.cooldown", DURATION),
    (set_in(monitor, retrain__budget__window="1w"), "ModelMonitor.spec.retrain.budget.window", DURATION),
    (set_in(monitor, report__retention="1w"), "ModelMonitor.spec.report.retention", DURATION),
    (set_in(monitor, service__maxLatency="fast"), "ModelMonitor.spec.service.maxLatency", DURATION),
    (set_in(monitor, notify__secretName="a_b"), "ModelMonitor.spec.notify.secretName", DNS_NAME),
]  # fmt: skip

ACCEPTED: list[Object] = [
    named("a" * 52),
    named("a"),
    named("model-2"),
    *(data(f"builtin://{name}") for name in ("breast_cancer", "iris?rows=0:100", "iris?rows=:50", "wine?rows=20:")),
    data("s3://my.bucket-1/deep/rows.parquet", secretRef={"name": "keys"}),
    data("builtin://iris", features=["x"]),
    set_in(training, candidates=[FOREST, RIDGE]),
    set_in(training, task="Regression", candidates=[RIDGE]),
    set_in(training, task="Classification", candidates=[LOGISTIC]),
    set_in(training, gates=[{"metric": "f1", "min": 0.5, "max": 0.5}]),
    set_in(training, gates=[{"metric": "f1", "maxDrop": 0.0, "confidence": 0.95}]),
    set_in(training, storage={"uri": "s3://bucket/models", "secretRef": {"name": "keys"}}),
    set_in(training, storage__uri="pvc://my-claim"),
    set_in(deployment, service={"type": "NodePort", "nodePort": 30080}),
    *(set_in(deployment, rollout__bakeTime=text) for text in ("0s", "90s", "15m", "24h", "1h30m", "500ms")),
    set_in(deployment, resources={"limits": {"memory": "1Gi", "cpu": 2}, "requests": {"cpu": "500m"}}),
    *(set_in(monitor, schedule=text) for text in ("*/15 * * * *", "@hourly", "0 3 * * 1-5", "0 0 1 JAN *")),
    set_in(monitor, window="10s"),
    set_in(monitor, alarm={"breaches": 3, "windows": 3}),
    set_in(monitor, retrain={"lookback": "72h", "cooldown": "0s"}),
]


REJECTED += (
    crd_recipe_rules.REJECTED + crd_custom_rules.REJECTED + crd_serving_rules.REJECTED + crd_rollout_rules.REJECTED
)
ACCEPTED += (
    crd_recipe_rules.ACCEPTED + crd_custom_rules.ACCEPTED + crd_serving_rules.ACCEPTED + crd_rollout_rules.ACCEPTED
)
GPU = {"key": "gpu"}
ZONE = "must be an IANA time zone such as Europe/Berlin or UTC"
TRAINING_CRON = "must be a cron expression of five fields such as 0 3 * * 1, or @daily"
REJECTED += [
    *((set_in(training, schedule=text), "ModelTraining.spec.schedule", TRAINING_CRON)
      for text in ("daily", "* * * *", "* * * * * *", "", "@every 5m", "0  * * * *", "0 0 * * MON;ls")),
    *((set_in(training, timeZone=text), "ModelTraining.spec.timeZone", ZONE)
      for text in ("", "+02:00", "../etc", "A B")),
    (set_in(training, deadline="2 days"), "ModelTraining.spec.deadline", DURATION),
    (set_in(training, deadline="500ms"), "ModelTraining.spec.deadline", "must be at least 1s"),
    (set_in(training, tolerations=[{"value": "x y", **GPU}]), "ModelTraining.spec.tolerations[0].value",
     "must be a label's value such as gpu"),
    (set_in(training, tolerations=[{"value": "x", "operator": "Exists", **GPU}]), "ModelTraining.spec.tolerations[0]",
     "value must not be set with operator Exists"),
    (set_in(training, tolerations=[{"effect": "NoSchedule"}]), "ModelTraining.spec.tolerations[0]",
     "operator must be Exists when there is no key"),
    (set_in(training, tolerations=[{"tolerationSeconds": 5, **GPU}]), "ModelTraining.spec.tolerations[0]",
     "tolerationSeconds must be used with effect NoExecute"),
    (set_in(training, priorityClassName="High!"), "ModelTraining.spec.priorityClassName", DNS_NAME),
    (set_in(training, runtimeClassName="Nvidia"), "ModelTraining.spec.runtimeClassName", DNS_NAME),
    (set_in(training, queueName="Team Queue"), "ModelTraining.spec.queueName",
     "must be the name of a LocalQueue such as team-queue"),
    (set_in(training, budget={"cpuHours": 1, "window": "a day"}), "ModelTraining.spec.budget.window", DURATION),
    (set_in(training, budget={"cpuHours": 1, "window": "30s"}), "ModelTraining.spec.budget",
     "window must be at least 1m"),
]  # fmt: skip
ACCEPTED += [
    *(set_in(training, schedule=text) for text in ("0 3 * * *", "@daily", "*/15 8-18 * * MON-FRI", "0 0 1,15 * ?")),
    *(set_in(training, schedule="0 3 * * *", timeZone=text) for text in ("UTC", "Europe/Berlin", "Etc/GMT+5",
                                                                        "America/Argentina/Buenos_Aires")),
    *(set_in(training, deadline=text) for text in ("1s", "90m", "24h", "1h30m")),
    set_in(training, tolerations=[{"operator": "Exists"}, {"value": "", **GPU}, {"effect": "NoExecute", **GPU}]),
    set_in(training, affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
    set_in(training, nodeSelector={"kubernetes.io/arch": "arm64"}, priorityClassName="low", runtimeClassName="nvidia"),
    set_in(training, queueName="team.queue-1"),
    set_in(training, budget={"cpuHours": 0.5, "window": "168h"}),
    set_in(training, resources={"limits": {"nvidia.com/gpu": 1}}),
]  # fmt: skip


# What all three kinds have.
for _make in (training, deployment, monitor):
    _kind = _make(NAMESPACE)["kind"]
    REJECTED += [(set_in(_make, image=text), f"{_kind}.spec.image", IMAGE) for text in ("", "my image", ":1.2")]
    for _part, _text in (("limits", "2 GB"), ("limits", "-1"), ("requests", "1.5.2"), ("requests", -1)):
        _body = set_in(_make, **{f"resources__{_part}__memory": _text})
        REJECTED.append((_body, f"{_kind}.spec.resources.{_part}[memory]", QUANTITY))
    ACCEPTED += [
        set_in(_make, image=text) for text in ("server", "localhost:5000/server:dev", f"a.example/b@sha256:{'0' * 64}")
    ]
    ACCEPTED += [set_in(_make, resources__limits__memory=amount) for amount in ("1.5Gi", "512Mi", "2G", 1073741824)]
REJECTED += [
    (set_in(deployment, trainingRef__name=text), "ModelDeployment.spec.trainingRef.name", DNS_NAME)
    for text in ("My Model", "-a", "")
]
REJECTED += [
    (set_in(monitor, deploymentRef__name="a_b"), "ModelMonitor.spec.deploymentRef.name", DNS_NAME),
    (data("s3://bucket/rows.csv", secretRef={"name": "A"}), "ModelTraining.spec.data.secretRef.name", DNS_NAME),
    (
        set_in(training, storage={"uri": "s3://bucket/models", "secretRef": {"name": "A"}}),
        "ModelTraining.spec.storage.secretRef.name",
        DNS_NAME,
    ),
]


@pytest.mark.parametrize(
    ("body", "place", "message"), REJECTED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_rule_says_what_to_write_instead(api: Api, body: Object, place: str, message: str) -> None:
    answer = said(api, body)
    field = place.removeprefix(f"{body['kind']}.")
    assert message in answer
    assert f"{field}:" in answer or field in message
    assert "should match '" not in answer, "a regular expression is no explanation"


@pytest.mark.parametrize("body", ACCEPTED, ids=lambda body: str(body["spec"])[:60])
def test_what_keeps_the_rules_is_accepted(api: Api, body: Object) -> None:
    assert said(api, body) == ""


def rules_of(kind: str) -> set[tuple[str, str]]:
    """Place and message of every rule in a kind's spec."""
    return {
        (f"{kind}.spec.{path}".rstrip("."), rule["message"])
        for path, node in walk(read_spec_schema(kind))
        for rule in node.get("x-kubernetes-validations", [])
    }


def test_every_rule_of_the_schemas_has_a_case_that_breaks_it() -> None:
    rules = {rule for kind in BASES for rule in rules_of(kind)}
    broken = {(re.sub(r"\[\d+\]", "[]", place).replace("[memory]", "{}"), message) for _, place, message in REJECTED}
    assert rules - broken == set()
    assert {message for place, message in broken if place.endswith("metadata.name")} == {NAME}


@pytest.mark.parametrize("kind", BASES)
def test_messages_speak_of_what_must_be(kind: str) -> None:
    for _, message in rules_of(kind):
        assert "must" in message


def test_an_unknown_estimator_is_told_the_known_ones(api: Api) -> None:
    answer = said(api, set_in(training, candidates=[{"estimator": "XGBClassifier"}]))
    assert 'Unsupported value: "XGBClassifier"' in answer
    assert '"RandomForestClassifier"' in answer


def test_kubectl_apply_names_an_unknown_field(cluster: Cluster) -> None:
    manifest = """
        apiVersion: modelloop.dev/v1alpha1
        kind: ModelTraining
        metadata: {name: cancer}
        spec:
          data: {uri: "builtin://breast_cancer", target: target}
          candidates: [{estimator: LogisticRegression, hyperparameters: {C: 1}}]
    """
    with pytest.raises(Exception, match=r'unknown field "spec.candidates\[0\].hyperparameters"'):
        cluster.kubectl("apply", "--dry-run=server", "-f", "-", stdin=manifest)
