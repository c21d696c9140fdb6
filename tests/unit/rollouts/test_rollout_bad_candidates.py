"""A bad candidate behind a stable version costs no client a request: two server processes and a route between them."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.contract.codec import dumps
from modelkit.contract.config import VersionRef
from modelkit.contract.route import ROUTE_REPORT_PATH, PeerConfig, RouteConfig, RuleConfig
from modelkit.serve.settings import ROUTE
from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_callers import Callers, Endpoint
from tests.e2e.e2e_faults import DELAY_SECONDS
from tests.e2e.e2e_traffic import read_patients
from tests.e2e.e2e_versions import NAME, Kind, Workshop
from tests.unit.serve.serve_process import Pod, running_pod, server_config

ROWS = [row for row, _ in read_patients(0, 60)]
REQUESTS = 150
NUMBERS = iter(range(8001, 9000))


def write_route(path: Path, stable: VersionRef, candidate: VersionRef, pod: Pod) -> None:
    """Half of the requests to the candidate, half of all compared."""
    host_port = pod.url.removeprefix("http://")
    peer = PeerConfig(number=candidate.number, http=host_port, grpc=f"127.0.0.1:{pod.grpc_port}")
    rule = RuleConfig(other=candidate.digest, weight=50.0, compare=50.0, timeout_seconds=DELAY_SECONDS / 2)
    config = RouteConfig(revision="1", measurement="1", peers={candidate.digest: peer}, rules={stable.digest: rule})
    new = path.with_suffix(".new")
    new.write_text(dumps(config))
    new.replace(path)


def read_report(pod: Pod) -> dict[str, Any]:
    """What the pod says of its route."""
    report: dict[str, Any] = httpx.get(pod.url + ROUTE_REPORT_PATH).json()
    return report


@pytest.mark.parametrize(
    ("kind", "failure", "answers"),
    [
        (Kind.GOOD, "", True),
        (Kind.WRONG_ANSWERS, "", True),
        (Kind.ERRORS, "Error", True),
        (Kind.SLOW, "Timeout", True),
        (Kind.DIES, "Unreachable", False),
        (Kind.OTHER_INPUTS, "Refused", False),
    ],
)
def test_no_request_fails_whatever_the_candidate_is_like(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, failure: str, answers: bool
) -> None:
    stable, candidate = workshop.write(Kind.GOOD, next(NUMBERS)), workshop.write(kind, next(NUMBERS))
    route = tmp_path / "route.json"
    with ExitStack() as stack:
        other = stack.enter_context(running_pod(server_config(workshop.root, candidate), tmp_path, "candidate"))
        monkeypatch.setenv(ROUTE, str(route))
        pod = stack.enter_context(running_pod(server_config(workshop.root, stable), tmp_path, "stable"))
        endpoint = Endpoint("127.0.0.1", int(pod.url.rsplit(":", 1)[1]), pod.grpc_port, NAME)
        callers = stack.enter_context(Callers(endpoint, ROWS, 0.03))
        write_route(route, stable, candidate, other)
        wait_for(lambda: read_report(pod)["revision"], 10, what="the route")

        def is_enough() -> bool:
            failures = read_report(pod)["other_side"]["failures"]
            asked = (stable, candidate) if answers else (stable,)
            has_answered = all(callers.answers_of(version.number).count for version in asked)
            return callers.requests >= REQUESTS and has_answered and (not failure or failure in failures)

        wait_for(is_enough, 60, what="requests, failures and answers enough")
    assert not callers.failures, callers.failures[:5]
