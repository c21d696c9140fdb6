"""How versions share traffic, as the pods are told: Services with addresses, one file, the same for the same state."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.codec import loads
from modelkit.contract.route import ROUTE_FILE, ROUTE_MOUNT, PeerConfig, RouteConfig, RuleConfig
from modelloop.api.kinds import MAX_NAME
from modelloop.desired import labels, names
from modelloop.desired.deployment import build_server, build_service, server_selector
from modelloop.desired.route import (
    build_peer,
    build_route,
    build_route_map,
    build_rule,
    build_version_service,
    host_port,
)
from tests.unit.operator_tests.operator_states import SETTINGS, UID, deployment_spec, digest_of
from tests.unit.operator_tests.serving_pods import pod, server, version

Object = dict[str, Any]
PLACE = {"namespace": "team", "name": "cancer", "uid": UID}
STABLE, CANDIDATE, OTHER = digest_of(1), digest_of(2), digest_of(3)
PEERS = {STABLE: build_peer(1, "10.96.0.1"), CANDIDATE: build_peer(2, "10.96.0.2")}


def rule(other: str = CANDIDATE, *, weight: float = 20, compare: float = 10, **rollout: Any) -> RuleConfig:
    spec = deployment_spec(rollout={"strategy": "Canary", **rollout})
    return build_rule(spec, other, weight=weight, compare=compare, is_guarded=False)


def service(digest: str = CANDIDATE, **fields: Any) -> Object:
    return build_version_service(deployment_spec(**fields), digest, **PLACE)


# -- Services -------------------------------------------------------------------------------------------------------


def test_the_service_of_a_version_has_its_servers_name_and_selects_its_pods_only() -> None:
    built = service()
    assert built["metadata"]["name"] == server()["metadata"]["name"] == names.server_name("cancer", CANDIDATE)
    assert built["spec"]["selector"].items() <= server()["spec"]["template"]["metadata"]["labels"].items()
    assert built["spec"]["selector"] != server_selector("cancer", STABLE)
    assert not built["spec"].get("publishNotReadyAddresses")
    assert built["spec"]["type"] == "ClusterIP"


def test_it_is_found_by_its_digest_and_owned() -> None:
    metadata = service()["metadata"]
    assert metadata["labels"][labels.DIGEST] == names.digest_label(CANDIDATE)
    assert metadata["labels"][labels.DEPLOYMENT] == "cancer"
    assert metadata["ownerReferences"] == [labels.owner_reference("ModelDeployment", "cancer", UID)]


def test_versions_ask_each_other_on_the_pods_own_ports_whatever_the_public_service_is() -> None:
    public = {"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30081}
    ports = service(service=public)["spec"]["ports"]
    assert [(port["name"], port["port"], port["targetPort"]) for port in ports] == [
        ("http", 8080, "http"),
        ("grpc", 8081, "grpc"),
    ]
    assert not any("nodePort" in port for port in ports)
    encrypted = service(tls={"secretName": "cert"})["spec"]["ports"]
    assert [(port["name"], port["port"], port["appProtocol"]) for port in encrypted] == [
        ("https", 8080, "https"),
        ("grpc", 8081, "https"),
    ]


def test_the_public_service_keeps_its_ports() -> None:
    ports = build_service(deployment_spec(), STABLE, **PLACE)["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in ports] == [("http", 80), ("grpc", 8081)]


def test_the_longest_names_fit() -> None:
    place = PLACE | {"name": "n" * MAX_NAME}
    built = build_version_service(deployment_spec(), CANDIDATE, **place)
    assert len(built["metadata"]["name"]) <= 63
    assert len(names.route_name("n" * MAX_NAME)) <= 63


# -- rules ----------------------------------------------------------------------------------------------------------


def test_a_rule_says_what_the_spec_says_of_the_candidate() -> None:
    assert rule(sticky={"header": "X-User-Id"}, candidateTimeout="250ms") == RuleConfig(
        other=CANDIDATE, weight=20, compare=10, timeout_seconds=0.25, sticky_header="x-user-id"
    )
    assert rule(sticky={"column": "Age"}).sticky_column == "Age"
    assert rule(sticky={"column": "Age"}, weight=100).sticky_column is None, "a version may lack it"
    plain = rule()
    assert (plain.sticky_header, plain.sticky_column, plain.timeout_seconds) == (None, None, 1.0)


def test_a_version_without_an_address_gets_no_traffic() -> None:
    route = build_route("1", {STABLE: rule(OTHER)}, PEERS, {STABLE: ["10.0.0.1"]})
    assert (route.rules, route.peers, route.labels) == ({}, {}, ())


def test_only_peers_that_a_rule_names_are_told() -> None:
    assert set(build_route("1", {STABLE: rule()}, PEERS, {}).peers) == {CANDIDATE}
    assert build_route("", {}, PEERS, {STABLE: ["10.0.0.1"]}) == build_route("", {}, {}, {}), "pods change no route"


def test_addresses_are_brought_into_form() -> None:
    assert host_port("10.0.0.1", 8080) == "10.0.0.1:8080"
    assert host_port("fd00::1", 8081) == "[fd00::1]:8081"
    assert build_peer(2, "fd00::2") == PeerConfig(number=2, http="[fd00::2]:8080", grpc="[fd00::2]:8081")


def test_labels_go_to_the_pods_that_compare() -> None:
    pods = {STABLE: ["10.0.0.9", "10.0.0.1"], CANDIDATE: ["10.0.0.5"]}
    assert build_route("1", {STABLE: rule()}, PEERS, pods).labels == ("10.0.0.1:8080", "10.0.0.9:8080")
    assert build_route("1", {STABLE: rule(compare=0)}, PEERS, pods).labels == ()


# -- the ConfigMap --------------------------------------------------------------------------------------------------


def test_the_config_map_holds_what_pods_read() -> None:
    route = build_route("step-1", {STABLE: rule()}, PEERS, {STABLE: ["10.0.0.1"]})
    built = build_route_map(route, **PLACE)
    assert built["metadata"]["name"] == "cancer-route"
    assert loads(RouteConfig, built["data"][ROUTE_FILE]) == route
    assert built["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelloop"
    assert built["metadata"]["ownerReferences"] == [labels.owner_reference("ModelDeployment", "cancer", UID)]


def test_pods_of_every_version_mount_it_as_a_folder_and_start_without_it() -> None:
    mounts, volumes = [], []
    for number in (1, 2):
        spec = pod(of=version().model_copy(update={"digest": digest_of(number), "number": number}))
        (main,) = spec["containers"]
        mounts += [mount for mount in main["volumeMounts"] if mount["name"] == "route"]
        volumes += [volume for volume in spec["volumes"] if volume["name"] == "route"]
        assert "POD_IP" in [entry["name"] for entry in main["env"]]
    assert mounts == [{"name": "route", "mountPath": ROUTE_MOUNT, "readOnly": True}] * 2
    assert volumes == [{"name": "route", "configMap": {"name": "cancer-route", "optional": True}}] * 2


def test_another_model_server_in_the_pod_sees_no_route() -> None:
    built = pod(runtime={"image": "example/triton:1", "port": 8000, "protocol": "V2"})
    mounts = [mount["name"] for step in built["initContainers"] for mount in step["volumeMounts"]]
    assert "route" not in mounts


def test_a_server_has_as_many_pods_as_a_rollout_wants() -> None:
    def size(replicas: int | None) -> int:
        built = build_server(deployment_spec(replicas=4), version(), **PLACE, settings=SETTINGS, replicas=replicas)
        found: int = built["spec"]["replicas"]
        return found

    assert [size(None), size(1), size(0)] == [4, 1, 0]


# -- any route ------------------------------------------------------------------------------------------------------

DIGESTS = st.sampled_from([STABLE, CANDIDATE, OTHER])
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
SHARES = st.floats(0, 100, allow_nan=False)
RULES = st.builds(RuleConfig, other=DIGESTS, weight=SHARES, compare=SHARES, is_guarded=st.booleans())
ROUTES = st.fixed_dictionaries(
    {
        "measurement": st.text(max_size=9),
        "wanted": st.dictionaries(DIGESTS, RULES),
        "peers": st.dictionaries(DIGESTS, st.builds(build_peer, st.integers(1, 99), ADDRESSES)),
        "pods": st.dictionaries(DIGESTS, st.lists(ADDRESSES, max_size=4)),
    }
)


@given(ROUTES)
def test_every_rule_leads_somewhere(parts: Any) -> None:
    route = build_route(**parts)
    assert {found.other for found in route.rules.values()} == set(route.peers)
    assert route.rules.items() <= parts["wanted"].items()
    assert list(route.labels) == sorted(set(route.labels))


@given(ROUTES, st.randoms())
def test_the_same_state_in_any_order_gives_the_same_bytes(parts: Any, random: Any) -> None:
    def shuffled(mapping: Any) -> Any:
        entries = list(mapping.items())
        random.shuffle(entries)
        return dict(entries)

    text = json.dumps(build_route_map(build_route(**parts), **PLACE))
    other = {key: shuffled(value) if isinstance(value, dict) else value for key, value in parts.items()}
    other["pods"] = {digest: addresses[::-1] * 2 for digest, addresses in other["pods"].items()}
    assert json.dumps(build_route_map(build_route(**other), **PLACE)) == text


@given(ROUTES, ROUTES)
def test_another_route_has_another_revision(first: Any, second: Any) -> None:
    one, two = build_route(**first), build_route(**second)
    assert (one == two) == (one.revision == two.revision)


@pytest.mark.parametrize("part", ["measurement", "weight"])
def test_a_step_and_a_weight_are_news(part: str) -> None:
    before = build_route("1", {STABLE: rule(weight=10)}, PEERS, {})
    after = (
        build_route("2", {STABLE: rule(weight=10)}, PEERS, {})
        if part == "measurement"
        else build_route("1", {STABLE: rule(weight=11)}, PEERS, {})
    )
    assert before.revision != after.revision
