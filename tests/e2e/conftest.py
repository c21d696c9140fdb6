"""One real cluster, one operator and one namespace per test module, shared by the whole session.

A module may define `prepare(space)`: what it applies there happens when the session starts, so that the slow
beginnings of all modules (training, pulling up servers) overlap.
"""

import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from devcluster.toolset import binary
from tests.cluster.cluster_api import ApiError
from tests.e2e.e2e_environment import BUILD, choose_environment
from tests.e2e.e2e_operator import NAME as OPERATOR
from tests.e2e.e2e_operator import SELECTOR as OPERATOR_SELECTOR
from tests.e2e.e2e_operator import SYSTEM, Operator
from tests.e2e.e2e_space import Kube, Space

IMAGES = ("operator", "trainer", "server", "monitor")
KEEP = "MODELLOOP_E2E_KEEP"
"""Set it to keep the cluster `e2e-keep` for the next session: seconds instead of half a minute while writing tests."""
ORDER = (
    "minimal", "bad_inputs", "training", "monitor", "own_images", "runtime", "clients", "loop", "s3", "digest",
    "security", "serving", "reload", "observability", "operator", "deletion", "rollouts", "crash",
)  # fmt: skip
_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """A cluster with the operator installed from manifests/install and ready."""
    keep = bool(os.environ.get(KEEP))
    environment = choose_environment("e2e-keep" if keep else f"e2e-{os.getpid()}", keep=keep)
    registry, tag = os.environ.get("REGISTRY", "localhost"), os.environ.get("TAG", "dev")
    images = {image: f"{registry}/modelloop-{image}:{tag}" for image in IMAGES}
    try:
        environment.up()
        environment.load(*images.values())
        made = Kube(environment, binary("kubectl"), images)
        made.kubectl("apply", "--server-side", "-f", "-", stdin=_render(made))
        if keep:
            made.kubectl("-n", SYSTEM, "rollout", "restart", f"deployment/{OPERATOR}")
        made.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{OPERATOR}", "--timeout=120s")
        yield made
        made.close()
    finally:
        if not keep:
            environment.down()


def _render(kube: Kube) -> str:
    """manifests/install with the images' names, as `make install-manifest` does it."""
    overlay = BUILD / "install"
    overlay.mkdir(parents=True, exist_ok=True)
    lines = ["resources: [../../../manifests/install]", "images:"]
    for image, reference in kube.images.items():
        name, _, tag = reference.rpartition(":")
        lines.append(f'  - {{name: modelloop-{image}, newName: "{name}", newTag: "{tag}"}}')
    text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + "\n".join(lines) + "\n"
    (overlay / "kustomization.yaml").write_text(text)
    return kube.kubectl("kustomize", str(overlay))


@pytest.fixture(scope="session")
def spaces(request: pytest.FixtureRequest, kube: Kube) -> Iterator[dict[str, Space]]:
    """The namespaces of the modules that run, by module; what they prepare is under way."""
    suffix = uuid.uuid4().hex[:5]
    made: dict[str, Space] = {}
    with ExitStack() as closing:
        for item in request.session.items:
            module = getattr(item, "module", None)
            if module is None or _HERE not in item.path.parents or module.__name__ in made:
                continue
            space = made[module.__name__] = Space(kube, f"{_short_name(item).replace('_', '-')}-{suffix}")
            if os.environ.get(KEEP):
                closing.callback(kube.api.delete, "Namespace", None, space.name)
            closing.callback(space.close)
            if hasattr(module, "prepare"):
                module.prepare(space)
        yield made


@pytest.fixture(scope="module")
def space(request: pytest.FixtureRequest, spaces: dict[str, Space]) -> Space:
    """The module's namespace."""
    return spaces[request.module.__name__]


@pytest.fixture(scope="session")
def operator(kube: Kube) -> Operator:
    """The operator's pod."""
    return Operator(kube)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What disturbs the operator comes last."""
    items.sort(key=lambda item: ORDER.index(_short_name(item)) if _short_name(item) in ORDER else -1)


def _short_name(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_e2e_")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what somebody would look at first to the report of a test that failed."""
    report = yield
    if report.failed and _HERE in item.path.parents:
        arguments = list(getattr(item, "funcargs", {}).values())
        spaces = [value for value in arguments if isinstance(value, Space)]
        clusters = [value for value in arguments if isinstance(value, Kube)] + [space.kube for space in spaces]
        # A cluster that is broken must not hide what the test found.
        with suppress(RuntimeError, OSError, ApiError, httpx.HTTPError):
            for space in spaces:
                report.sections.extend(space.describe())
            for kube in clusters[:1]:
                log = kube.kubectl("-n", SYSTEM, "logs", "-l", OPERATOR_SELECTOR, "--tail=60")
                report.sections.append(("log of the operator", log))
    return report
