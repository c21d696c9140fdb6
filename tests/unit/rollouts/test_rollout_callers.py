"""The clients of the rollouts' tests see every failure, and tell who answered."""

from pathlib import Path

from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_callers import KINDS, Callers, Endpoint
from tests.e2e.e2e_traffic import new_client, read_patients
from tests.e2e.e2e_versions import NAME, Kind, Workshop
from tests.unit.serve.serve_process import Pod, running_pod, server_config

ROWS = [row for row, _ in read_patients(0, 30)]
PAUSE = 0.01


def call(pod: Pod) -> Callers:
    """Clients of one server."""
    return Callers(Endpoint("127.0.0.1", int(pod.url.rsplit(":", 1)[1]), pod.grpc_port, NAME), ROWS, PAUSE)


def wait_requests(callers: Callers, count: int) -> None:
    """Until that many more were sent."""
    enough = callers.requests + count
    wait_for(lambda: callers.requests >= enough, 20.0, what=f"{count} requests", every=0.01)


def test_every_kind_of_client_gets_right_answers_of_a_good_version_and_names_it(
    workshop: Workshop, tmp_path: Path
) -> None:
    version = workshop.write(Kind.GOOD, 7001)
    with running_pod(server_config(workshop.root, version), tmp_path) as pod, call(pod) as callers:
        wait_requests(callers, 10 * len(KINDS))
    assert not callers.failures
    assert callers.answers_of(7001).count == callers.requests == len(callers.seconds)
    assert callers.answers_of(7002).count == 0


def test_clients_count_what_a_version_fails_at_and_go_on(workshop: Workshop, tmp_path: Path) -> None:
    version = workshop.write(Kind.ERRORS, 7003)
    with running_pod(server_config(workshop.root, version), tmp_path) as pod, call(pod) as callers:
        wait_requests(callers, 10 * len(KINDS))
    answers = callers.answers_of(7003)
    assert 0 < answers.count < callers.requests
    assert len(callers.failures) == callers.requests - answers.count
    for protocol in ("Rest", "Grpc"):
        assert any(protocol in failure for failure in callers.failures)


def test_clients_count_requests_to_nobody(workshop: Workshop, tmp_path: Path) -> None:
    version = workshop.write(Kind.GOOD, 7004)
    with running_pod(server_config(workshop.root, version), tmp_path) as pod, call(pod) as callers:
        wait_requests(callers, len(KINDS))
        pod.process.kill()
        pod.process.wait()
        failed = len(callers.failures)
        wait_requests(callers, 2 * len(KINDS))
        assert len(callers.failures) >= failed + len(KINDS)


def test_in_silence_nothing_is_sent(workshop: Workshop, tmp_path: Path) -> None:
    version = workshop.write(Kind.GOOD, 7005)
    with running_pod(server_config(workshop.root, version), tmp_path) as pod, call(pod) as callers:
        wait_requests(callers, len(KINDS))
        with callers.silence():
            sent = callers.requests
            with new_client(pod.url) as client:
                for row in ROWS:
                    assert client.post("/predict", json={"features": [row]}).status_code == 200
            assert callers.requests == sent
        wait_requests(callers, len(KINDS))
