"""The life of a run under the real controllers: suspended, queued, too long, spread, approved, scheduled, paid for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelkit.contract.codec import format_time
from modelkit.contract.result import Usage
from modelloop.cluster.resources import MODEL_TRAINING, POD
from tests.cluster.cluster_api import Api, Object, condition_of, wait_for
from tests.cluster.cluster_loop import NAME, containers, is_ready, number_of, report, training
from tests.cluster.cluster_node import Node, running
from tests.cluster.cluster_operator import OperatorProcess

Operators = Callable[..., OperatorProcess]


def busy(pod: Object) -> Sequence[Object]:
    """A container that works on and on."""
    return [running(pod)]


def training_of(api: Api, namespace: str) -> Object:
    return api.get("ModelTraining", namespace, NAME)


def reason_of(api: Api, namespace: str, type_: str = "Ready") -> str:
    return str(condition_of(training_of(api, namespace), type_).get("reason", ""))


def change(api: Api, namespace: str, **spec: object) -> None:
    api.patch("ModelTraining", namespace, NAME, {"spec": spec})


def annotate(api: Api, namespace: str, **annotations: str) -> None:
    named = {f"modelloop.dev/{name}": value for name, value in annotations.items()}
    api.patch("ModelTraining", namespace, NAME, {"metadata": {"annotations": named}})


def jobs(api: Api, namespace: str) -> dict[str, Object]:
    return {body["metadata"]["name"]: body for body in api.list("Job", namespace)}


def pods(api: Api, namespace: str, component: str = "trainer") -> list[Object]:
    found = api.list("Pod", namespace)
    return [body for body in found if body["metadata"]["labels"]["app.kubernetes.io/component"] == component]


def wait_until_ready(api: Api, namespace: str) -> None:
    wait_for(lambda: is_ready(training_of(api, namespace)), what="a Ready training")


def test_a_run_is_suspended_and_resumed_in_its_job(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, busy)
    api.apply(training(namespace))
    operator()
    wait_for(lambda: pods(api, namespace), what="a trainer")
    (name,) = jobs(api, namespace)
    change(api, namespace, suspend=True)
    wait_for(lambda: not pods(api, namespace), what="the pod to be gone")
    wait_for(lambda: reason_of(api, namespace) == "Suspended", what="a word of it")
    node.play(namespace, containers())
    change(api, namespace, suspend=False)
    wait_until_ready(api, namespace)
    assert node.created[namespace][f"Job/{name}"] == 1
    assert training_of(api, namespace)["status"]["history"][0]["trigger"]["reason"] == "Created"


def test_a_queued_run_waits_for_its_queue(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, containers())
    api.apply(training(namespace, queueName="team"))
    operator()
    wait_for(lambda: reason_of(api, namespace) == "Queued", what="a queued run")
    (name,) = jobs(api, namespace)
    assert jobs(api, namespace)[name]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    change(api, namespace, suspend=True)
    wait_for(lambda: not jobs(api, namespace), what="a Job that no queue can start")
    change(api, namespace, suspend=False)
    wait_for(lambda: jobs(api, namespace), what="the Job, queued again")
    assert jobs(api, namespace)[name]["spec"]["suspend"] is True
    assert not pods(api, namespace)
    api.patch("Job", namespace, name, {"spec": {"suspend": False}})  # as Kueue admits it
    wait_until_ready(api, namespace)
    assert training_of(api, namespace)["status"]["runs"] == 1


def test_a_run_over_its_deadline_fails_once(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, busy)
    api.apply(training(namespace, deadline="1s", retries=5))
    operator()
    wait_for(lambda: reason_of(api, namespace) == "DeadlineExceeded", 40, what="the end of the run")
    (run,) = training_of(api, namespace)["status"]["history"]
    assert run["verdict"] == "Failed"
    assert "spec.deadline (1s)" in run["message"]
    assert run["cost"]["estimated"] is True
    assert len(jobs(api, namespace)) == 1


def test_workers_come_and_go_with_the_run(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, busy)
    api.apply(training(namespace, tuning={"parallelism": 2}))
    operator()
    wait_for(lambda: len(pods(api, namespace, "worker")) == 2, what="two workers")
    (name,) = (name for name in jobs(api, namespace) if not name.endswith("-w"))
    api.delete("Job", namespace, f"{name}-w")
    wait_for(lambda: node.created[namespace][f"Job/{name}-w"] == 2, what="the lost workers made again")
    (trainer,) = pods(api, namespace)
    *_, end = containers()(trainer)
    place = POD.path(namespace, trainer["metadata"]["name"], "status")
    api.request("PATCH", place, {"status": end}, "application/merge-patch+json")
    wait_until_ready(api, namespace)
    wait_for(lambda: list(jobs(api, namespace)) == [name], what="the workers' Job to be gone")
    wait_for(lambda: not pods(api, namespace, "worker"), what="the workers to be gone")
    assert node.created[namespace][f"Job/{name}"] == 1


def test_a_version_waits_for_a_person(api: Api, node: Node, namespace: str, operator: Operators) -> None:
    node.play(namespace, containers())
    api.apply(training(namespace, approval="Manual"))
    operator()
    wait_for(lambda: reason_of(api, namespace, "Approved") == "AwaitingApproval", what="a version that waits")
    assert number_of(training_of(api, namespace), "champion") is None
    annotate(api, namespace, approve="7")
    wait_for(lambda: reason_of(api, namespace, "ApprovalRefused"), what="a refusal")
    annotate(api, namespace, approve="1")
    wait_until_ready(api, namespace)
    assert number_of(training_of(api, namespace), "champion") == 1
    assert reason_of(api, namespace, "ApprovalRefused") == ""


def test_a_time_that_came_while_the_operator_was_down_is_made_up_for(
    api: Api, node: Node, namespace: str, operator: Operators
) -> None:
    node.play(namespace, containers())
    api.apply(training(namespace, schedule="0 3 * * *", timeZone="Europe/Berlin"))
    first = operator()
    wait_until_ready(api, namespace)
    first.stop()
    missed = datetime.now(UTC) - timedelta(days=3)
    status = {"status": {"schedule": {"nextScheduleTime": format_time(missed.replace(microsecond=0))}}}
    api.request("PATCH", MODEL_TRAINING.path(namespace, NAME, "status"), status, "application/merge-patch+json")
    operator()
    wait_for(lambda: number_of(training_of(api, namespace), "champion") == 2, what="the run that was missed")
    found = training_of(api, namespace)["status"]
    assert found["runs"] == 2, "one for all three days"
    assert found["history"][0]["trigger"]["reason"] == "Scheduled"
    assert datetime.fromisoformat(found["schedule"]["nextScheduleTime"]) > datetime.now(UTC)


def test_a_spent_budget_holds_a_run_back_until_it_is_raised(
    api: Api, node: Node, namespace: str, operator: Operators
) -> None:
    node.play(namespace, containers(report(usage=Usage(cpu_seconds=7200.0, memory_gib_seconds=3600.0))))
    api.apply(training(namespace, budget={"cpuHours": 1}))
    operator()
    wait_until_ready(api, namespace)
    total = training_of(api, namespace)["status"]["total"]
    assert (total["cpuSeconds"], total["runs"]) == (7200, 1)
    assert total["co2eGrams"] > 0
    annotate(api, namespace, run="again")
    wait_for(lambda: reason_of(api, namespace, "RunAllowed") == "BudgetExhausted", what="a run that waits")
    assert training_of(api, namespace)["status"]["runs"] == 1
    change(api, namespace, budget={"cpuHours": 5})
    wait_for(lambda: number_of(training_of(api, namespace), "champion") == 2, what="the second run")


# -- progress ----------------------------------------------------------------------------------------------------------

ADDRESS = "127.9.0.90"


@pytest.fixture
def metrics() -> Iterator[int]:
    """A trainer's /metrics; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b'modelloop_training_progress_ratio 0.42\nmodelloop_training_stage_info{stage="Searching"} 1.0\n'
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((ADDRESS, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_progress_is_in_status_while_the_run_lasts(
    api: Api, node: Node, namespace: str, operator: Operators, metrics: int
) -> None:
    node.play(namespace, lambda pod: [{**running(pod), "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}])
    api.apply(training(namespace))
    operator(overrides={"modelkit.contract.environment.METRICS_PORT": metrics})

    def progress() -> Object:
        run: Object = training_of(api, namespace).get("status", {}).get("run", {})
        return run.get("progress") or {}

    wait_for(progress, what="progress")
    assert (progress()["percent"], progress()["stage"]) == (42, "Searching")
