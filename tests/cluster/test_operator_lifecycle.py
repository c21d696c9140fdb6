"""Starting, standing by, taking over and stopping."""

import time
from collections.abc import Callable, Iterator

import pytest

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, connection_of, wait_for
from tests.cluster.cluster_loop import NAME, containers, is_ready, training
from tests.cluster.cluster_node import Background, Node
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_proxy import Proxy

Operators = Callable[..., OperatorProcess]
LEASE = "modelloop-operator"


@pytest.fixture
def proxies(
    background: Background, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Proxy]]:
    """Makes proxies, one per operator."""
    made: list[Proxy] = []

    def make() -> Proxy:
        made.append(Proxy(background, *connection_of(cluster.kubeconfig), tmp_path_factory.mktemp("proxy")))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def holder_of(api: Api, namespace: str) -> str:
    """Who holds the Lease."""
    lease = api.find("Lease", namespace, LEASE)
    return str(lease["spec"].get("holderIdentity", "")) if lease else ""


def wait_until_active(process: OperatorProcess, timeout: float = 30.0) -> None:
    """Wait until it holds the Lease and works."""
    wait_for(
        lambda: "modelloop_lease_held 1.0" in process.probe("/metrics")[1] and process.probe("/readyz")[0] == 200,
        timeout,
        what=f"{process.pod_name} to become active",
    )


def test_python_m_modelloop_works_and_ends_at_sigterm_with_exit_code_0(
    api: Api, node: Node, namespace: str, operator: Operators
) -> None:
    node.play(namespace, containers())
    process = operator(zygote=None)
    api.apply(training(namespace))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
    process.stop()
    assert process.exit_code == 0
    assert holder_of(api, namespace) == ""


def test_python_m_modelloop_ends_at_sigterm_while_a_write_hangs(
    api: Api, namespace: str, operator: Operators, proxies: Callable[[], Proxy]
) -> None:
    proxy = proxies()
    process = operator(zygote=None, kubeconfig=proxy.kubeconfig)
    wait_until_active(process)
    hung: list[str] = []

    def hang(method: str, path: str) -> bool:
        if method == "PATCH" and "/status" in path:
            hung.append(path)
        return method == "PATCH" and "/status" in path

    proxy.faults.hang = hang
    api.apply(training(namespace))
    wait_for(lambda: hung, what="a write that hangs")
    process.stop(10)


def test_a_missing_setting_is_told_in_one_line(namespace: str, operator: Operators) -> None:
    process = operator(zygote=None, extra={"MODELLOOP_SERVER_IMAGE": ""})
    assert process.wait(20)
    assert process.exit_code == 1
    assert process.tail().splitlines() == [
        "modelloop can't start: MODELLOOP_SERVER_IMAGE must be set to an image reference; manifests/install sets it"
    ]


def test_a_standby_writes_nothing_and_takes_over_after_a_kill(
    api: Api, node: Node, namespace: str, operator: Operators, proxies: Callable[[], Proxy]
) -> None:
    node.play(namespace, containers())
    first = operator(pod_name="first")
    wait_until_active(first)
    proxy = proxies()
    second = operator(pod_name="second", kubeconfig=proxy.kubeconfig)
    wait_for(lambda: second.probe("/readyz")[0] == 200, what="a ready standby")
    api.apply(training(namespace))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
    assert proxy.writes == []
    assert "modelloop_lease_held 0.0" in second.probe("/metrics")[1]
    killed = time.monotonic()
    first.kill()
    api.apply(training(namespace, "next"))
    wait_until_active(second, 25)
    assert time.monotonic() - killed <= 21
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, "next")), what="the second operator's work")
    assert holder_of(api, namespace) == "second"


def test_a_standby_takes_over_at_once_after_a_graceful_stop(api: Api, namespace: str, operator: Operators) -> None:
    first = operator(pod_name="first")
    wait_until_active(first)
    second = operator(pod_name="second")
    wait_for(lambda: second.probe("/readyz")[0] == 200, what="a ready standby")
    first.stop()
    stopped = time.monotonic()
    wait_until_active(second)
    assert time.monotonic() - stopped < 5


def test_an_operator_whose_lease_was_taken_ends_and_leaves_it_to_the_new_holder(
    api: Api, namespace: str, operator: Operators
) -> None:
    process = operator()
    wait_until_active(process)
    api.patch("Lease", namespace, LEASE, {"spec": {"holderIdentity": "usurper"}})
    assert process.wait(8)
    assert holder_of(api, namespace) == "usurper"


def test_a_restarted_container_of_the_same_pod_goes_on_at_once(api: Api, namespace: str, operator: Operators) -> None:
    process = operator()
    wait_until_active(process)
    process.kill()
    process.start()
    started = time.monotonic()
    wait_until_active(process)
    assert time.monotonic() - started < 6


def test_an_operator_waits_for_an_api_server_that_does_not_answer_yet(
    api: Api, node: Node, namespace: str, operator: Operators, proxies: Callable[[], Proxy]
) -> None:
    node.play(namespace, containers())
    api.apply(training(namespace))
    proxy = proxies()
    proxy.faults.refuse = True
    process = operator(kubeconfig=proxy.kubeconfig)
    wait_for(lambda: "could not take the lease" in process.tail(), what="a line in the log")
    assert process.probe("/healthz")[0] == 200
    proxy.faults.refuse = False
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), what="a Ready training")
