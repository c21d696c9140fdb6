"""A real etcd, kube-apiserver and kube-controller-manager for a whole test session; a namespace per test.

With pytest-xdist the workers share one cluster: a second API server costs two cores more than it gains.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from tests.cluster.cluster_api import Api, connection_of, make_namespace
from tests.cluster.cluster_node import Background, Node
from tests.cluster.cluster_operator import OperatorProcess
from tests.cluster.cluster_story import End, Story, World
from tests.cluster.cluster_zygote import Zygote

ROOT = Path(__file__).resolve().parents[2]
# Nothing heartbeats for the played node: without these two, its pods stay.
CONTROLLERS = "--controllers=*,-node-lifecycle-controller,-pod-garbage-collector-controller"
AUTOSCALER = "--horizontal-pod-autoscaler-sync-period=2s"

OperatorFactory = Callable[..., OperatorProcess]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The API server, with the three kinds and the operator's namespace. The last one to leave turns it off."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    owner = os.getppid() if is_worker else os.getpid()
    made = Cluster(
        f"test-{owner}", tier="apiserver", owner_pid=owner, controller_manager_args=(CONTROLLERS, AUTOSCALER)
    )
    with open(Path(tempfile.gettempdir()) / f"modelloop-test-{os.getuid()}-{owner}.lock", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        made.up()
        made.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
        made.kubectl(
            "wait", "--for=condition=Established", "--timeout=60s", "crd", "-l", "app.kubernetes.io/part-of=modelloop"
        )
        made.kubectl("apply", "--server-side", "-f", str(ROOT / "manifests/install/namespace.yaml"))
        yield made
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        made.down()
        Path(users.name).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    """The API server as the administrator."""
    made = Api(*connection_of(cluster.kubeconfig))
    yield made
    made.close()


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    """An event loop beside the tests."""
    made = Background()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def node(cluster: Cluster, background: Background) -> Iterator[Node]:
    """A played node; `node.play(namespace, containers())` makes a namespace's pods run."""
    made = Node(background, *connection_of(cluster.kubeconfig))
    yield made
    made.close()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts operators in milliseconds."""
    made = Zygote()
    yield made
    made.close()


@pytest.fixture(scope="session")
def world(
    cluster: Cluster,
    api: Api,
    node: Node,
    background: Background,
    zygote: Zygote,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    """Where stories happen."""
    folder = tmp_path_factory.mktemp("stories")
    return World(cluster=cluster, api=api, node=node, background=background, zygote=zygote, folder=folder)


@pytest.fixture(scope="session")
def undisturbed(world: World) -> End:
    """How the story ends when nothing goes wrong."""
    end = Story(world, make_namespace(world.api)).play(None)
    assert end.created["Job"] == 2
    for kind, count in {
        "Deployment": 2,
        "PodDisruptionBudget": 2,
        "HorizontalPodAutoscaler": 1,
        "NetworkPolicy": 1,
    }.items():
        assert end.created[kind] == count
    return end


@pytest.fixture
def new_namespace(api: Api) -> Iterator[Callable[[], str]]:
    """Makes namespaces that are deleted after the test, without waiting for it."""
    made: list[str] = []

    def make() -> str:
        made.append(make_namespace(api))
        return made[-1]

    yield make
    for name in made:
        api.delete("Namespace", None, name)


@pytest.fixture
def namespace(new_namespace: Callable[[], str]) -> str:
    """The test's own namespace."""
    return new_namespace()


@pytest.fixture
def operator(cluster: Cluster, zygote: Zygote, namespace: str, tmp_path: Path) -> Iterator[OperatorFactory]:
    """Starts operators for the test's namespace, which end with the test: `operator(pod_name=…)`.

    They are forked from a process that has imported everything; `operator(zygote=None)` is `python -m modelloop`.
    """
    processes: list[OperatorProcess] = []

    def start(**fields: object) -> OperatorProcess:
        stated = {
            "kubeconfig": cluster.kubeconfig,
            "namespace": namespace,
            "log": tmp_path / f"operator-{len(processes)}.log",
            "zygote": zygote,
        } | fields
        processes.append(OperatorProcess(**stated))  # type: ignore[arg-type]
        return processes[-1].start()

    yield start
    for process in processes:
        process.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the operators' logs of a test that failed; they end only after the report of the call is made."""
    report = yield
    if report.when == "call" and report.failed and "operator" in getattr(item, "fixturenames", ()):
        for log in sorted(item.funcargs.get("tmp_path", Path("/nowhere")).glob("operator-*.log")):
            lines = log.read_text(errors="replace").splitlines()[-40:]
            report.sections.append((f"log of {log.name}", "\n".join(lines)))
    return report
