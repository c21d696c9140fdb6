"""Who may do what: pods under the restricted standard, no tokens, no Secrets, one status."""

from typing import Any

import pytest

from tests.e2e.e2e_manifests import build_deployment, build_monitor, build_training
from tests.e2e.e2e_operator import NAME as OPERATOR
from tests.e2e.e2e_operator import SYSTEM
from tests.e2e.e2e_space import Kube, Space

NAME = "iris"
TOKENS = "/var/run/secrets/kubernetes.io"


def prepare(space: Space) -> None:
    space.apply(
        build_training(NAME, data={"uri": "builtin://iris", "target": "target"}, gates=[]),
        build_deployment(NAME),
        build_monitor(NAME),
    )


@pytest.fixture(scope="module")
def pods(space: Space, spaces: dict[str, Space]) -> list[dict[str, Any]]:
    """Every workload pod of the session that is there, at least one of each component."""
    space.wait_condition("ModelDeployment", NAME)
    space.wait_condition("ModelMonitor", NAME)
    space.look(NAME)
    found = [pod for each in spaces.values() for part in ("trainer", "server", "monitor") for pod in each.pods(part)]
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in found} == {
        "trainer",
        "server",
        "monitor",
    }
    return found


def test_every_workload_pod_was_admitted_under_the_restricted_standard(
    space: Space, spaces: dict[str, Space], pods: list[dict[str, Any]]
) -> None:
    # Enforced from the first moment, so what runs was admitted; and nothing was refused.
    for each in spaces.values():
        labels = each.api.get("Namespace", None, each.name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        refused = [event["message"] for event in each.objects("Event") if "PodSecurity" in event.get("message", "")]
        assert refused == []
    for pod in pods:
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


def test_trainers_and_servers_have_no_token(space: Space, pods: list[dict[str, Any]]) -> None:
    for pod in pods:
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        mounts = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
        has_token = any(path.startswith(TOKENS) for path in mounts)
        assert has_token == (component == "monitor"), pod["metadata"]["name"]
    server = space.pods("server")[0]["metadata"]["name"]
    program = f"import os; print(os.path.exists({TOKENS!r}))"
    assert space.kubectl("exec", server, "--", "/opt/venv/bin/python", "-c", program).strip() == "False"


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("get", ("modelmonitors.modelloop.dev/iris", "--subresource=status"), True),
        ("patch", ("modelmonitors.modelloop.dev/iris", "--subresource=status"), True),
        ("patch", ("modelmonitors.modelloop.dev/other", "--subresource=status"), False),
        ("patch", ("modelmonitors.modelloop.dev", "--subresource=status"), False),
        ("patch", ("modelmonitors.modelloop.dev/iris",), False),
        ("get", ("modelmonitors.modelloop.dev/iris",), False),
        ("list", ("modelmonitors.modelloop.dev",), False),
        ("patch", ("modeltrainings.modelloop.dev/iris", "--subresource=status"), False),
        ("patch", ("modeldeployments.modelloop.dev/iris", "--subresource=status"), False),
        ("get", ("secrets",), False),
        ("get", ("pods",), False),
        ("create", ("jobs.batch",), False),
    ],
)
def test_a_monitors_account_may_patch_its_own_status_and_nothing_else(
    space: Space, pods: list[dict[str, Any]], verb: str, what: tuple[str, ...], allowed: bool
) -> None:
    account = f"system:serviceaccount:{space.name}:{NAME}-monitor"
    assert _can(space.kube, account, "-n", space.name, verb, *what) == allowed


@pytest.mark.parametrize("verb", ["get", "list", "watch", "create", "update", "patch", "delete"])
def test_the_operator_may_do_nothing_with_secrets(kube: Kube, verb: str) -> None:
    account = f"system:serviceaccount:{SYSTEM}:{OPERATOR}"
    assert not _can(kube, account, "--all-namespaces", verb, "secrets")
    assert not _can(kube, account, "-n", SYSTEM, verb, "secrets")


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        ("*", "*"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("delete", "persistentvolumeclaims"),
        ("delete", "namespaces"),
        ("update", "modeltrainings.modelloop.dev"),
        ("patch", "modeltrainings.modelloop.dev"),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
        ("escalate", "roles.rbac.authorization.k8s.io"),
        ("bind", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "serviceaccounts"),
    ],
)
def test_the_operator_may_not_take_more_than_it_needs(kube: Kube, verb: str, what: str) -> None:
    assert not _can(kube, f"system:serviceaccount:{SYSTEM}:{OPERATOR}", "--all-namespaces", verb, what)


def _can(kube: Kube, account: str, *question: str) -> bool:
    try:
        return kube.kubectl("auth", "can-i", f"--as={account}", "--quiet", *question) == ""
    except RuntimeError as exc:
        # `--quiet` says no by its exit code, and nothing.
        if str(exc).endswith("failed with exit code 1: "):
            return False
        raise
