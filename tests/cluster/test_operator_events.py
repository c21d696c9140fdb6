"""Lost, late and stale events change nothing, and a probe tells of a watch that died."""

import zlib
from collections.abc import Callable, Iterator

import pytest

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, connection_of, make_namespace, wait_for
from tests.cluster.cluster_loop import NAME, containers, is_ready, training
from tests.cluster.cluster_node import Background, Node
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_proxy import Faults, Proxy
from tests.cluster.cluster_story import End, Story, World, wait_for_quiet

AUDIT = {"modelloop.cluster.sync.WATCH_LAG": 0.5}


def lose_everything(faults: Faults) -> None:
    """No watch ever tells anything."""
    faults.drop = lambda _plural, _event: True


def lose_every_second(faults: Faults) -> None:
    """Half of all events are lost, always the same ones for the same object."""

    def drop(_plural: str, event: dict[str, dict[str, dict[str, str]]]) -> bool:
        return zlib.crc32(event["object"]["metadata"]["resourceVersion"].encode()) % 2 == 0

    faults.drop = drop


def lose_deletions(faults: Faults) -> None:
    """Nobody hears of a deletion."""
    faults.drop = lambda _plural, event: event["type"] == "DELETED"


def delay(faults: Faults) -> None:
    """Every event comes late, and the later the more there are."""
    faults.delay = lambda _plural: 0.3


def repeat_stale(faults: Faults) -> None:
    """Old states come again after newer ones."""
    faults.echo = True


@pytest.mark.parametrize("disturb", [lose_everything, lose_every_second, lose_deletions, delay, repeat_stale])
def test_the_loop_ends_the_same_when_events_are(
    world: World, undisturbed: End, disturb: Callable[[Faults], None]
) -> None:
    story = Story(world, make_namespace(world.api), AUDIT, MODELLOOP_AUDIT_SECONDS="1")
    disturb(story.proxy.faults)
    end = story.play(undisturbed)
    assert not end.faults, "\n".join([*end.faults, end.log])


def test_a_second_pass_over_a_finished_loop_writes_nothing(world: World, undisturbed: End) -> None:
    story = Story(world, make_namespace(world.api))
    story.play_on(undisturbed)
    wait_for_quiet(story.proxy, 2.0)
    before = story.read()
    story.proxy.writes.clear()
    story.operator.kill()
    story.operator.start()
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        passed = f'modelloop_reconciles_total{{kind="{kind}",outcome="done"}}'
        wait_for(lambda passed=passed: passed in story.operator.probe("/metrics")[1], what=f"a pass over {kind}")
    wait_for_quiet(story.proxy, 2.0)
    assert story.proxy.writes == []
    assert story.read() == before
    story.close()


@pytest.fixture
def proxy(background: Background, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy for the test's operator."""
    made = Proxy(background, *connection_of(cluster.kubeconfig), tmp_path_factory.mktemp("proxy"))
    yield made
    made.close()


def test_a_watch_that_silently_died_fails_the_liveness_probe_and_the_audit_does_its_work(
    api: Api, node: Node, namespace: str, operator: Callable[..., OperatorProcess], proxy: Proxy
) -> None:
    node.play(namespace, containers())
    process = operator(kubeconfig=proxy.kubeconfig, extra={"MODELLOOP_AUDIT_SECONDS": "1"})
    wait_for(lambda: process.probe("/readyz")[0] == 200, what="an active operator")
    assert process.probe("/healthz") == (200, "ok\n")
    # The list that comes before a watch would tell of the training, and nothing would be missed.
    wait_for(lambda: "modeltrainings" in proxy.watched, what="a watch that can die")
    proxy.faults.frozen = {"modeltrainings"}
    api.apply(training(namespace))
    wait_for(lambda: is_ready(api.get("ModelTraining", namespace, NAME)), 60, what="a Ready training all the same")
    # The first audit after a start only mends: what it finds may be older than the watches.
    api.patch("ModelTraining", namespace, NAME, {"metadata": {"labels": {"team": "other"}}})
    wait_for(lambda: process.probe("/healthz")[0] == 503, 30, what="a failing probe")
    assert "ModelTraining" in process.probe("/healthz")[1]
    assert 'modelloop_cache_repairs_total{kind="ModelTraining"}' in process.probe("/metrics")[1]


def test_a_reconcile_that_hangs_fails_the_liveness_probe(
    api: Api, namespace: str, operator: Callable[..., OperatorProcess], proxy: Proxy
) -> None:
    process = operator(kubeconfig=proxy.kubeconfig, overrides={"modelloop.cluster.health.STUCK_SECONDS": 3.0})
    wait_for(lambda: process.probe("/readyz")[0] == 200, what="an active operator")
    proxy.faults.hang = lambda method, path: method == "PATCH" and "/status" in path
    api.apply(training(namespace))
    wait_for(lambda: process.probe("/healthz")[0] == 503, 20, what="a failing probe")
    assert "a reconcile has been running for" in process.probe("/healthz")[1]
