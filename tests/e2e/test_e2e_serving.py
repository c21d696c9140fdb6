"""Serving goes on: through a rolling update, killed pods and evictions, behind TLS and tokens, under attack."""

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_attacks import Slow, measure_p99, send_mutations
from tests.e2e.e2e_manifests import build_deployment, build_secret, build_training
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, read_patients
from tests.unit.serve.serve_certificates import make_pair

NAME, SECURED, ATTACKED = "clinic", "secured", "attacked"
TOKEN = "a-token-of-the-test"
ROWS = [row for row, _ in read_patients(0, 20)]
MEMORY_MIB = 320
MUTATIONS = 100_000
SLOW_CONNECTIONS = 1_000
LIMIT_CODES = {503, 504}


CERTIFICATE, KEY = (part.decode() for part in make_pair(SECURED))


def prepare(space: Space) -> None:
    space.apply(build_training(NAME), build_deployment(NAME, replicas=2))
    certificate = build_secret("certificate", {"tls.crt": CERTIFICATE, "tls.key": KEY})
    space.apply({**certificate, "type": "kubernetes.io/tls"})
    space.apply(build_secret("tokens", {"team": TOKEN}))
    tls, auth = {"secretName": "certificate"}, {"secretName": "tokens"}
    space.apply(build_deployment(SECURED, NAME, tls=tls, auth=auth))
    limits = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": f"{MEMORY_MIB}Mi"}}
    space.apply(build_deployment(ATTACKED, NAME, resources=limits, limits={"headerTimeout": "20s"}))


@pytest.fixture(scope="module")
def address(space: Space) -> str:
    """Of the deployment with two pods."""
    space.wait_condition("ModelDeployment", NAME)
    return space.address(NAME)


@pytest.fixture
def load(address: str) -> Iterator[Load]:
    """Constant load; no request of it may fail."""
    with Load(address, ROWS) as load:
        yield load
        enough = load.tally.requests + 100
        wait_for(lambda: load.tally.requests >= enough, 10, what="a hundred more requests")
    load.require_no_failure()


def serving(space: Space) -> dict[str, Any]:
    """The pods that are Ready, by uid."""
    found = {}
    for pod in space.pods("server", NAME):
        states = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
        if states.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            found[pod["metadata"]["uid"]] = pod
    return found


def wait_replaced(space: Space, old: dict[str, Any]) -> None:
    """Until two other pods serve and the old ones are gone."""

    def replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in space.pods("server", NAME)}
        return len(serving(space)) == 2 and not uids & set(old)

    space.wait(replaced, "two new pods")


def test_no_request_fails_while_the_pods_are_rolled(space: Space, load: Load) -> None:
    old = serving(space)
    assert len(old) == 2
    space.patch("ModelDeployment", NAME, {"limits": {"maxRows": 5000}})
    wait_replaced(space, old)


def test_no_request_fails_when_a_pod_is_killed(space: Space, load: Load) -> None:
    uid, pod = next(iter(serving(space).items()))
    space.api.delete("Pod", space.name, pod["metadata"]["name"])
    wait_replaced(space, {uid: pod})


def test_no_request_fails_when_all_pods_are_evicted_as_a_node_drain_does(space: Space, load: Load) -> None:
    old = serving(space)
    refused = 0
    for pod in old.values():

        def evicted(pod: dict[str, Any] = pod) -> bool:
            nonlocal refused
            done = space.api.evict(pod)
            refused += not done
            return done

        space.wait(evicted, f"the eviction of {pod['metadata']['name']}")
    wait_replaced(space, old)
    assert refused > 0, "the budget must have held back the second eviction while the first was made good"


def test_tls_and_a_token_are_asked_of_clients_but_not_of_probes(space: Space) -> None:
    space.wait_condition("ModelDeployment", SECURED)
    ports = {port["name"]: port for port in space.get("Service", SECURED)["spec"]["ports"]}
    (port,) = [port["nodePort"] for name, port in ports.items() if name != "grpc"]
    context = ssl.create_default_context(cadata=CERTIFICATE)
    context.check_hostname = False
    host = space.kube.environment.node_address
    body = json.dumps({"features": [ROWS[0]]})

    def ask(**headers: str) -> tuple[int, Any]:
        with closing(http.client.HTTPSConnection(host, port, context=context, timeout=10)) as connection:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    assert ask()[0] == 401
    assert ask(Authorization="Bearer another")[0] == 401
    status, answer = ask(Authorization=f"Bearer {TOKEN}")
    assert status == 200
    assert len(answer["predictions"]) == 1


@pytest.fixture(scope="module")
def attacked(space: Space) -> str:
    """Of the deployment that is attacked."""
    space.wait_condition("ModelDeployment", ATTACKED)
    return space.address(ATTACKED)


def require_alive(space: Space) -> None:
    """The pod has neither ended nor used its memory up."""
    (pod,) = space.pods("server", ATTACKED)
    (container,) = pod["status"]["containerStatuses"]
    assert container["restartCount"] == 0
    metrics = space.metrics(pod["metadata"]["name"])
    (line,) = [line for line in metrics.splitlines() if line.startswith("process_resident_memory_bytes ")]
    assert float(line.split()[1]) < 0.8 * MEMORY_MIB * 2**20


def test_a_hundred_thousand_mutated_bodies_find_no_failure(space: Space, attacked: str) -> None:
    codes = send_mutations(attacked, ATTACKED, ROWS, MUTATIONS)
    assert sum(codes.values()) == MUTATIONS
    assert {code for code in codes if code >= 500} <= LIMIT_CODES, codes
    assert codes[200] > MUTATIONS / 100, "some mutations leave the body as it was, or change a number"
    assert codes[400] > MUTATIONS / 10
    require_alive(space)


def test_honest_clients_hardly_notice_a_thousand_slow_ones_and_an_endless_body(space: Space, attacked: str) -> None:
    ratios = []
    for _ in range(3):
        quiet = measure_p99(attacked, ROWS[0])
        with Slow(attacked, SLOW_CONNECTIONS) as slow:
            busy = measure_p99(attacked, ROWS[0])
            assert slow.open_connections() >= 0.9 * SLOW_CONNECTIONS
        ratios.append(busy / quiet)
    assert min(ratios) < 2, ratios
    require_alive(space)
