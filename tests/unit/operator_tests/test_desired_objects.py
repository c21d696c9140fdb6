"""Every object that the operator makes: names that fit, restricted pods, purity, configurations that parse."""

import copy
import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import loads
from modelkit.contract.config import ServerConfig
from modelkit.contract.environment import CONFIG
from modelkit.contract.monitoring import MonitorConfig
from modelloop.api.common import Resources, Storage, VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec
from modelloop.api.kinds import MAX_NAME
from modelloop.api.monitor import DriftCheck, QualityCheck
from modelloop.api.training import Trigger
from modelloop.desired import names
from modelloop.desired.deployment import build_server, build_service, server_selector
from modelloop.desired.monitor import build_access, build_cron_job
from modelloop.desired.route import build_route, build_route_map
from modelloop.desired.training import begin_run, build_job
from modelloop.desired.workload import WorkloadSettings, build_resources, build_store_claim, parse_quantity
from tests.unit.operator_tests.operator_states import (
    NOW,
    SETTINGS,
    UID,
    deployment_spec,
    digest_of,
    monitor_spec,
    training_spec,
)
from tests.unit.operator_tests.pod_checks import find_violations, pod_spec

Object = dict[str, Any]
LONGEST = "n" * MAX_NAME
S3 = Storage.model_validate({"uri": "s3://models/x", "secretRef": {"name": "keys"}})
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def version(storage: Storage | None = None) -> VersionStatus:
    return VersionStatus(number=2, path="models/team/x/2-y", digest=digest_of(2), storage=storage or Storage())


def build_all(name: str = "cancer", storage: Storage | None = None, **fields: Any) -> dict[str, Object]:
    """One of each object, by kind; `fields` go into every spec."""
    stored = {"storage": storage.model_dump(by_alias=True, exclude_none=True)} if storage else {}
    training = training_spec(**stored, **fields)
    run = begin_run(
        training,
        namespace="team",
        name=name,
        uid=UID,
        number=1,
        trigger=Trigger(reason="Created"),
        champion=None,
        feedback=None,
        now=NOW,
    )
    place: dict[str, Any] = {"namespace": "team", "name": name, "uid": UID}
    objects = [
        build_job(training, run, **place, settings=SETTINGS),
        build_server(deployment_spec(**fields), version(storage), **place, settings=SETTINGS),
        build_service(deployment_spec(**fields), digest_of(2), **place),
        build_route_map(build_route("", {}, {}, {}), **place),
        build_cron_job(monitor_spec(**fields), version(storage), NOW, **place, settings=SETTINGS),
        *build_access(**place),
        build_store_claim("team", SETTINGS, "modelloop-store"),
    ]
    return {item["kind"]: item for item in objects}


@pytest.mark.parametrize("kind", build_all())
@pytest.mark.parametrize("storage", [None, S3], ids=["on a claim", "on S3"])
def test_pods_satisfy_the_restricted_standard_with_a_read_only_root(kind: str, storage: Storage | None) -> None:
    pod = pod_spec(build_all(storage=storage)[kind])
    if pod is None:
        return
    assert find_violations(pod) == []
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["containers"])
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is (kind == "CronJob"), "only the monitor's pod talks to the API server"


def test_the_check_of_the_standard_sees_violations() -> None:
    assert {"root", "seccomp", "capabilities", "privilege escalation"} <= set(find_violations({"containers": [{}]}))
    assert find_violations({"hostNetwork": True, "containers": []}) == ["hostNetwork"]
    assert find_violations({"containers": [], "volumes": [{"name": "x", "hostPath": {}}]}) == ["volume hostPath"]


@pytest.mark.parametrize("kind", build_all())
def test_names_and_labels_of_the_longest_name_are_valid(kind: str) -> None:
    item = build_all(LONGEST)[kind]
    limit = 52 if kind == "CronJob" else 63
    assert len(item["metadata"]["name"]) <= limit
    assert DNS_LABEL.fullmatch(item["metadata"]["name"])
    template = item.get("spec", {}).get("jobTemplate", item.get("spec", {})).get("template", {})
    for labels in (item["metadata"]["labels"], template.get("metadata", {}).get("labels", {})):
        for key, value in labels.items():
            assert LABEL_KEY.fullmatch(key), key
            assert len(value) <= 63
            assert LABEL_VALUE.fullmatch(value), value


def test_names_tell_runs_versions_and_earlier_objects_of_a_name_apart() -> None:
    assert names.job_name("a", "uid-1", 1) != names.job_name("a", "uid-2", 1)
    assert names.job_name("a", "uid-1", 1) != names.job_name("a", "uid-1", 2)
    assert names.server_name("a", digest_of(1)) != names.server_name("a", digest_of(2 << 28))
    assert names.version_name("uid-1", 3).startswith("3-")
    assert names.store_claim("pvc://models") == "models"
    assert names.store_claim("s3://models/x") is None


@pytest.mark.parametrize("kind", build_all())
def test_building_twice_gives_equal_and_fresh_objects(kind: str) -> None:
    first, second = build_all()[kind], build_all()[kind]
    assert first == second
    before = copy.deepcopy(second)
    _scribble(first)
    assert second == before
    assert json.loads(json.dumps(second)) == second, "plain JSON only"


def _scribble(value: Any) -> None:
    if isinstance(value, dict):
        for key in list(value):
            _scribble(value[key])
        value["scribbled"] = True
    elif isinstance(value, list):
        for item in value:
            _scribble(item)
        value.append("scribbled")


def test_parts_of_a_built_object_are_not_shared_with_the_next_one() -> None:
    first = build_all()
    before = copy.deepcopy(build_all())
    for item in first.values():
        _scribble(item)
    assert build_all() == before


@pytest.mark.parametrize("kind", build_all())
def test_every_object_but_the_store_has_its_owner_and_is_watched(kind: str) -> None:
    metadata = build_all()[kind]["metadata"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "modelloop"
    if kind == "PersistentVolumeClaim":
        assert "ownerReferences" not in metadata, "model versions outlive their custom resources"
        return
    (owner,) = metadata["ownerReferences"]
    assert owner["uid"] == UID
    assert owner["controller"] is (kind != "Job"), "see desired.training: a CronJob would take the Job for its own"


@pytest.mark.parametrize("kind", build_all())
def test_no_object_holds_a_secret(kind: str) -> None:
    text = json.dumps(build_all(storage=S3)[kind])
    assert '"kind": "Secret"' not in text
    assert "secretKeyRef" not in text
    pod = pod_spec(build_all(storage=S3)[kind])
    if pod is not None:
        assert pod["containers"][0]["envFrom"] == [{"prefix": "MODELLOOP_STORE_", "secretRef": {"name": "keys"}}]


def environment(item: Object) -> str:
    pod = pod_spec(item)
    assert pod is not None
    found: str = next(entry["value"] for entry in pod["containers"][0]["env"] if entry["name"] == CONFIG)
    return found


def test_the_servers_configuration_names_its_version_and_store() -> None:
    config = loads(ServerConfig, environment(build_all(storage=S3)["Deployment"]))
    assert (config.namespace, config.deployment) == ("team", "cancer")
    assert (config.version.number, config.version.digest, config.version.path) == (2, digest_of(2), "models/team/x/2-y")
    assert config.store.uri == "s3://models/x"


def test_the_monitors_configuration_says_all_of_the_spec() -> None:
    spec = monitor_spec(
        window="90m",
        minRows=7,
        drift={"maxDistance": 0.3, "falseDiscoveryRate": 0.05, "maxDriftedShare": 0.1},
        quality={"metric": "f1", "maxDrop": 0.1, "minLabels": 9},
    )
    since = NOW - timedelta(hours=3)
    item = build_cron_job(spec, version(), since, namespace="team", name="drift", uid=UID, settings=SETTINGS)
    config = loads(MonitorConfig, environment(item))
    assert (config.name, config.deployment, config.version_since) == ("drift", "cancer", since)
    assert (config.window_seconds, config.min_rows) == (5400, 7)
    assert {key: getattr(config.drift, key) for key in DriftCheck.model_fields} == spec.drift.model_dump()
    assert {key: getattr(config.quality, key) for key in QualityCheck.model_fields} == spec.quality.model_dump()
    assert config.store.uri == "file:///var/lib/modelloop/store"


def test_the_cron_job_never_overlaps_and_keeps_the_schedule_of_the_spec() -> None:
    spec = monitor_spec(timeZone="Europe/Berlin", suspend=True)
    item = build_cron_job(spec, version(), NOW, namespace="team", name="drift", uid=UID, settings=SETTINGS)["spec"]
    assert item["concurrencyPolicy"] == "Forbid"
    assert item["startingDeadlineSeconds"] >= 10
    assert (item["schedule"], item["timeZone"], item["suspend"]) == ("*/15 * * * *", "Europe/Berlin", True)


def test_the_monitors_account_may_patch_the_status_of_its_own_monitor_and_nothing_else() -> None:
    _, role, binding = build_access(namespace="team", name="drift", uid=UID)
    assert role["rules"] == [
        {
            "apiGroups": ["modelloop.dev"],
            "resources": ["modelmonitors/status"],
            "resourceNames": ["drift"],
            "verbs": ["get", "patch"],
        }
    ]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "drift-monitor", "namespace": "team"}]


def test_the_service_selects_one_version_and_the_pods_of_the_server_have_its_labels() -> None:
    objects = build_all()
    selector = objects["Service"]["spec"]["selector"]
    assert selector == server_selector("cancer", digest_of(2))
    assert selector.items() <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == selector
    assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_a_servers_template_hash_changes_with_its_pods_and_not_with_its_size() -> None:
    def hash_of(spec: ModelDeploymentSpec) -> str:
        item = build_server(spec, version(), namespace="team", name="x", uid=UID, settings=SETTINGS)
        text: str = item["metadata"]["annotations"]["modelloop.dev/template-hash"]
        return text

    base = hash_of(deployment_spec())
    assert hash_of(deployment_spec(replicas=5)) == base
    assert hash_of(deployment_spec(service={"type": "NodePort"})) == base
    assert hash_of(deployment_spec(image="example/other:1")) != base
    assert hash_of(deployment_spec(resources={"limits": {"memory": "1Gi"}})) != base
    assert hash_of(deployment_spec(capture={"samplePercent": 1})) != base


def test_the_store_claim_takes_the_installations_class_and_size() -> None:
    settings = WorkloadSettings(
        trainer_image="t", server_image="s", monitor_image="m", store_size="1Gi", store_class="fast"
    )
    spec = build_store_claim("team", settings, "modelloop-store")["spec"]
    assert spec["storageClassName"] == "fast"
    assert spec["resources"] == {"requests": {"storage": "1Gi"}}
    assert "storageClassName" not in build_store_claim("team", SETTINGS, "modelloop-store")["spec"]


# -- resources ------------------------------------------------------------------------------------------------------

QUANTITIES = st.one_of(
    st.integers(0, 10_000),
    st.builds(
        lambda number, unit: f"{number}{unit}",
        st.one_of(st.integers(0, 5000), st.decimals(0, 100, places=2)),
        st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]),
    ),
)
AMOUNTS = st.dictionaries(st.sampled_from(["cpu", "memory", "example.com/gpu"]), QUANTITIES)


@given(requests=AMOUNTS, limits=AMOUNTS)
def test_what_is_stated_stands_and_no_default_puts_a_request_above_its_limit(
    requests: dict[str, int | str], limits: dict[str, int | str]
) -> None:
    default = Resources(requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"})
    built = build_resources(Resources(requests=requests, limits=limits), default)
    assert {key: str(value) for key, value in requests.items()}.items() <= built["requests"].items()
    assert {key: str(value) for key, value in limits.items()}.items() <= built["limits"].items()
    for key, request in built["requests"].items():
        if key in built["limits"] and not (key in requests and key in limits):
            assert parse_quantity(request) <= parse_quantity(built["limits"][key])


def test_defaults_fill_what_is_not_stated() -> None:
    default = Resources(requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"})
    assert build_resources(Resources(), default) == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "2Gi"},
    }
    assert build_resources(Resources(limits={"memory": "256Mi"}), default)["requests"]["memory"] == "256Mi"
    assert build_resources(Resources(requests={"memory": "4Gi"}), default)["limits"]["memory"] == "4Gi"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.7", "700m"),
        ("2.3", "2300m"),
        ("1000m", "1"),
        ("1.5Gi", "1536Mi"),
        ("1000", "1k"),
        (3, "3"),
        ("0.0001", "100u"),
    ],
)
def test_a_quantity_equals_its_canonical_form(text: int | str, canonical: str) -> None:
    assert parse_quantity(text) == parse_quantity(canonical)


@given(st.decimals(0, 1000, places=3))
def test_a_decimal_quantity_equals_the_thousandths_that_the_api_server_writes(number: Decimal) -> None:
    assert parse_quantity(str(number)) == parse_quantity(f"{int(number * 1000)}m")


@pytest.mark.parametrize("text", ["", "Gi", "1/0", "1e3", "nan", "inf", "1 Gi", "-1", "1KiB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        parse_quantity(text)
