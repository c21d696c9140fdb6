"""Promise 6: deleting a custom resource leaves nothing behind, with the operator up or down.

Versions are kept, or go with their training where its deletionPolicy says so.
"""

import time

import pytest

from tests.e2e.e2e_manifests import build_deployment, build_monitor, build_pod, build_training
from tests.e2e.e2e_operator import Operator
from tests.e2e.e2e_space import STORE_CLAIM, Space

UP, DOWN = "while-up", "while-down"
OWN_BY_NATURE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
STRANGER = "while-stranger"
"""Another user's pod beside ours."""


def prepare(space: Space) -> None:
    for name in (UP, DOWN):
        space.apply(
            build_training(
                name,
                data={"uri": "builtin://iris", "target": "target"},
                gates=[],
                deletionPolicy="Delete" if name == UP else "Retain",
            ),
            build_deployment(name),
            build_monitor(name, schedule="* * * * *"),
        )
    program = "import signal; signal.sigwait({signal.SIGTERM})"
    space.apply(build_pod(STRANGER, space.kube.images["trainer"], program, {}))


@pytest.fixture(scope="module")
def stranger(space: Space) -> str:
    """The uid of the other user's pod."""
    space.wait(lambda: space.get("Pod", STRANGER)["status"].get("phase") == "Running", "the stranger")
    return str(space.get("Pod", STRANGER)["metadata"]["uid"])


def _left(space: Space) -> set[str]:
    """Every object of every listable kind in the namespace, but Events and what comes with any namespace."""
    kinds = space.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    wanted = ",".join(kind for kind in kinds if not kind.startswith("events"))
    found = space.kubectl("get", wanted, "-o", "name", "--ignore-not-found").split()
    return set(found) - OWN_BY_NATURE - {f"pod/{STRANGER}", f"persistentvolumeclaim/{STORE_CLAIM}"}


def _prepare_everything(space: Space, name: str) -> None:
    """All that there can be: a served version, a monitor with its access and a Job of it, a run under way."""
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        space.wait_condition(kind, name)
    space.wait(lambda: space.pods("monitor", name), "a scheduled pod of the monitor")
    space.annotate("ModelTraining", name, "modelloop.dev/run", "once more")
    space.wait(lambda: len(space.pods("trainer", name)) == 2, "the pod of a second run")


def _require_stranger(space: Space, uid: str) -> None:
    pod = space.get("Pod", STRANGER)
    assert pod["metadata"]["uid"] == uid
    assert "deletionTimestamp" not in pod["metadata"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_with_the_operator_running_nothing_is_left_but_the_store_and_others_objects(
    space: Space, operator: Operator, stranger: str
) -> None:
    _prepare_everything(space, UP)
    # The deployment first: a version that one names when its training goes is kept.
    space.kubectl("delete", "md,mm,mt", UP, "--wait=false")
    space.wait(lambda: not {name for name in _left(space) if UP in name}, f"the end of everything of {UP}")
    _require_stranger(space, stranger)
    assert space.get("PersistentVolumeClaim", STORE_CLAIM)["status"]["phase"] == "Bound"


def test_with_the_operator_down_nothing_is_left_either_and_nothing_comes_back(
    space: Space, operator: Operator, stranger: str
) -> None:
    _prepare_everything(space, DOWN)
    operator.scale(0)
    try:
        started = time.monotonic()
        space.kubectl("delete", "mt,md,mm", DOWN, "--timeout=20s")
        assert time.monotonic() - started < 20, "a finalizer held the deletion up"
        space.wait(lambda: not _left(space), f"the end of everything of {DOWN}")
    finally:
        operator.scale(1)
    operator.wait_until_it_leads()
    assert _left(space) == set()
    _require_stranger(space, stranger)


def test_versions_outlive_their_custom_resources_unless_they_shall_go_with_them(
    space: Space, operator: Operator
) -> None:
    listing = space.exec(
        "import glob; print(*glob.glob('/var/lib/modelloop/store/models/*/*/*/manifest.json'), sep='\\n')"
    )
    assert f"/{space.name}/{DOWN}/1-" in listing
    assert f"/{space.name}/{UP}/" not in listing
