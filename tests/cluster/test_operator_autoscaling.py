"""The real autoscaler follows the load: by CPU and by requests in flight, of the pods that serve and no others."""

from pathlib import Path

import pytest

from modelloop.desired.labels import DIGEST
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import Api, wait_for
from tests.cluster.cluster_loop import NAME, containers, deployment, digest_of, is_ready, number_of, training
from tests.cluster.cluster_metrics import CPU, CUSTOM, Metrics
from tests.cluster.cluster_node import Background, Node
from tests.cluster.conftest import OperatorFactory

SLOW = 60.0


@pytest.mark.parametrize(
    ("group", "asks", "unit"),
    [(CPU, {"cpuUtilization": 50}, 50), (CUSTOM, {"concurrency": 10}, 10_000)],
    ids=["cpu", "concurrency"],
)
def test_the_count_follows_the_load_of_the_version_that_serves_through_a_rollout(
    api: Api, node: Node, background: Background, namespace: str, operator: OperatorFactory, tmp_path: Path,
    group: tuple[str, str], asks: dict[str, int], unit: int,
) -> None:  # fmt: skip
    """`unit` is the load that one pod is meant to bear: half of the 100m that it asks for, or 10 requests."""
    node.play(namespace, containers())
    scaling = {"maxReplicas": 5, "scaleDownStabilization": "0s", **asks}
    with Metrics(api=api, background=background, namespace=namespace, folder=tmp_path, group=group) as metrics:
        wait_for(metrics.is_available, what="metrics")
        metrics.load = unit
        api.apply(training(namespace))
        resources = {"requests": {"cpu": "100m", "memory": "64Mi"}}
        api.apply(deployment(namespace, autoscaling=scaling, resources=resources, rollout={"bakeTime": "1h"}))
        operator()

        def serve(number: int, load: float, count: int) -> None:
            metrics.load = int(load * unit)
            wait_for(
                lambda: (
                    (body := api.get("ModelDeployment", namespace, NAME))["spec"]["replicas"] == count
                    and is_ready(body)
                    and number_of(body, "stable") == number
                    and body["status"]["readyReplicas"] == count
                ),
                SLOW,
                what=f"{count} pods of version {number}",
            )

        serve(1, 1.0, 1)
        serve(1, 2.5, 3)
        assert metrics.asked
        assert all(digest_label(digest_of(1)) in selector for selector in metrics.asked)
        again = {"annotations": {"modelloop.dev/run": "again"}}
        api.patch("ModelTraining", namespace, NAME, {"metadata": again})
        serve(2, 2.5, 3)
        before = len(metrics.asked)
        serve(2, 4.5, 5)
        assert all(digest_label(digest_of(2)) in selector for selector in metrics.asked[before + 1 :])
        serve(2, 9.0, 5)
        serve(2, 1.5, 2)
        warm = f"{DIGEST}={digest_label(digest_of(1))}"
        wait_for(
            lambda: len(api.list("Pod", namespace, warm)) == 2,
            what="the version that is kept warm to be able to take over at once, whatever the load is by now",
        )
