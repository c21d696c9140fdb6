"""What the rollouts on a real node rely on: each version that is meant to be bad is, in the way that it is meant to be.

Every version is served by the server's own process.
"""

import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.contract.config import VersionRef
from tests.e2e.e2e_faults import DELAY_SECONDS
from tests.e2e.e2e_traffic import Row, new_client, read_patients
from tests.e2e.e2e_versions import NAME, Kind, Workshop
from tests.unit.serve.serve_process import Pod, running_pod, server_config, start_pod

ROWS = [row for row, _ in read_patients(0, 60)]
GIBIBYTE = 2**30

Make = Callable[[Kind], VersionRef]


@pytest.fixture(scope="session")
def make(workshop: Workshop) -> Make:
    """A new version of a kind."""
    numbers = iter(range(1, 1_000))
    return lambda kind: workshop.write(kind, next(numbers))


def ask(pod: Pod, *rows: Row) -> list[httpx.Response]:
    """One request for each row; raises httpx.TransportError for what isn't answered."""
    with new_client(pod.url) as client:
        return [client.post("/predict", json={"features": [row]}) for row in rows]


def predict(pod: Pod) -> list[Any]:
    """The pod's predictions for all rows."""
    answer = httpx.post(f"{pod.url}/predict", json={"features": ROWS})
    assert answer.status_code == 200, answer.text
    predictions: list[Any] = answer.json()["predictions"]
    return predictions


def share_equal(left: list[Any], right: list[Any]) -> float:
    return sum(bool(a == b) for a, b in zip(left, right, strict=True)) / len(left)


@pytest.fixture(scope="module")
def usual(workshop: Workshop, make: Make, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a good version answers."""
    with running_pod(server_config(workshop.root, make(Kind.GOOD)), tmp_path_factory.mktemp("usual")) as pod:
        return predict(pod)


def test_two_good_versions_differ_in_digest_and_agree_on_nearly_every_row(
    workshop: Workshop, make: Make, usual: list[Any], tmp_path: Path
) -> None:
    one, other = make(Kind.GOOD), make(Kind.GOOD)
    assert one.digest != other.digest
    for version in (one, other):
        with running_pod(server_config(workshop.root, version), tmp_path, f"pod-{version.number}") as pod:
            assert share_equal(predict(pod), usual) > 0.95
            assert ask(pod, ROWS[0])[0].json()["version"] == str(version.number)


def test_permuted_labels_make_most_answers_wrong(
    workshop: Workshop, make: Make, usual: list[Any], tmp_path: Path
) -> None:
    with running_pod(server_config(workshop.root, make(Kind.WRONG_ANSWERS)), tmp_path) as pod:
        assert share_equal(predict(pod), usual) < 0.1


def test_a_failing_graph_passes_the_warm_up_and_answers_500_to_a_share_of_the_requests(
    workshop: Workshop, make: Make, tmp_path: Path
) -> None:
    with running_pod(server_config(workshop.root, make(Kind.ERRORS)), tmp_path) as pod:
        codes = [answer.status_code for answer in ask(pod, *ROWS)]
        assert set(codes) == {200, 500}
        assert 0.4 < codes.count(500) / len(codes) < 0.9


def test_a_slow_graph_passes_the_warm_up_and_answers_late(workshop: Workshop, make: Make, tmp_path: Path) -> None:
    with running_pod(server_config(workshop.root, make(Kind.SLOW)), tmp_path) as pod:
        answers = ask(pod, *ROWS[:8])
        assert {answer.status_code for answer in answers} == {200}
        seconds = [answer.elapsed.total_seconds() for answer in answers]
        assert min(seconds) < DELAY_SECONDS / 3
        assert sorted(seconds)[len(seconds) // 2] > DELAY_SECONDS / 2


def test_a_deadly_graph_passes_the_warm_up_and_ends_the_process_at_a_request(
    workshop: Workshop, make: Make, tmp_path: Path
) -> None:
    with running_pod(server_config(workshop.root, make(Kind.DIES)), tmp_path) as pod:
        with pytest.raises(httpx.TransportError):
            ask(pod, *ROWS)
        assert pod.process.wait(10) == -signal.SIGFPE


def test_a_greedy_graph_passes_the_warm_up_and_takes_gibibytes_at_a_request(
    workshop: Workshop, make: Make, tmp_path: Path
) -> None:
    with running_pod(server_config(workshop.root, make(Kind.TAKES_MEMORY)), tmp_path) as pod:
        assert peak_bytes(pod) < GIBIBYTE / 2
        largest = max(ROWS, key=lambda row: next(iter(row.values())))
        with ThreadPoolExecutor(1) as pool:
            # Where there is less memory than that the request is never answered; the process is over then.
            asked = pool.submit(ask, pod, largest)
            deadline = time.monotonic() + 20
            while peak_bytes(pod) < GIBIBYTE and time.monotonic() < deadline:
                time.sleep(0.01)
            found = peak_bytes(pod)
            pod.process.kill()
            asked.exception()
        assert found >= GIBIBYTE


def peak_bytes(pod: Pod) -> int:
    """The most memory that the process has had."""
    status = Path(f"/proc/{pod.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kind.UNLOADABLE, "ModelNotLoadable"),
        (Kind.SAMPLES_DIFFER, "SamplesDiffer"),
        (Kind.CHANGED, "DigestMismatch"),
    ],
)
def test_a_version_that_is_refused_never_gets_ready_and_says_why(
    workshop: Workshop, make: Make, tmp_path: Path, kind: Kind, reason: str
) -> None:
    pod = start_pod(server_config(workshop.root, make(kind)), tmp_path)
    assert pod.process.wait(30) != 0
    assert f'"{reason}"' in pod.termination_log.read_text()


def test_a_version_that_dies_at_its_samples_says_nothing(workshop: Workshop, make: Make, tmp_path: Path) -> None:
    pod = start_pod(server_config(workshop.root, make(Kind.DIES_AT_START)), tmp_path)
    assert pod.process.wait(30) == -signal.SIGFPE


def test_a_version_of_other_inputs_gets_ready_and_refuses_what_the_clients_send(
    workshop: Workshop, make: Make, tmp_path: Path
) -> None:
    with running_pod(server_config(workshop.root, make(Kind.OTHER_INPUTS)), tmp_path) as pod:
        means = {name: value for name, value in ROWS[0].items() if name.startswith("mean ")}
        asked, fitting = ask(pod, ROWS[0], means)
        assert 400 <= asked.status_code < 500
        assert fitting.status_code == 200
        tensor = {"name": "X", "shape": [1, 30], "datatype": "FP64", "data": list(ROWS[0].values())}
        infer = httpx.post(f"{pod.url}/v2/models/{NAME}/infer", json={"inputs": [tensor]})
        assert 400 <= infer.status_code < 500
