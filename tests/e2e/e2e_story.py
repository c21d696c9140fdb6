"""Tells the whole loop to a real cluster and keeps what was seen: served, healthy, drifted, retrained, rolled out."""

import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, Row, new_client, read_patients, send_patients

Object = dict[str, Any]

NAME = "cancer"
MARK, TEXT = "987654321", "zebra-5ac1"
"""Digits and words of requests that must turn up nowhere but in the store."""
ASKED = read_patients(0, 20)
BASELINE = read_patients(0, 80)
DRIFTED = [
    (row | {"mean radius": round(row["mean radius"]) + float(f"0.{MARK}")}, label)
    for row, label in read_patients(80, 240, drifted=True)
]
BAKE_SECONDS = 12


@dataclass(frozen=True, slots=True)
class Answers:
    """What version 1 answered to the rows ASKED, over both protocols."""

    plain: Object
    infer: Object
    metadata: Object


@dataclass(frozen=True, slots=True)
class Story:
    """What was seen, in this order."""

    first_deployment: str
    """Name of the Deployment of version 1."""
    answers: Answers
    healthy: Object
    """The window of the same sort of patients as in the training."""
    alarm: Object
    """The request to retrain."""
    load: Load
    """The requests from the alarm to the end of the old pods."""
    warm_seconds: float
    """From the promotion until the old pods were gone."""


def tell(space: Space) -> Story:
    """From three manifests that were just applied to version 2 alone."""
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        space.wait_condition(kind, NAME)
    address, first = space.address(NAME), space.status("ModelDeployment", NAME)["stable"]["deployment"]
    answers = _ask(address, [row for row, _ in ASKED])
    send_patients(address, BASELINE)
    space.wait_captured(NAME, len(BASELINE))
    healthy = space.look(NAME)
    send_patients(address, DRIFTED)
    _send_nonsense(address)
    space.wait_captured(NAME, len(BASELINE) + len(DRIFTED))
    space.look(NAME)
    with Load(address, [row for row, _ in DRIFTED]) as load:
        space.look(NAME)
        alarm: Object = space.wait_status("ModelMonitor", NAME, lambda status: "retrain" in status, "an alarm")
        space.wait_status("ModelDeployment", NAME, _serves_version_2, "version 2")
        promoted = time.monotonic()
        # Through the bake time until the old pods are gone: that is when a request could get lost.
        space.wait(lambda: not _pods_of(space, first), "the end of the old pods", BAKE_SECONDS + 60)
        warm_seconds = time.monotonic() - promoted
    return Story(first, answers, healthy, alarm["retrain"], load, warm_seconds)


def _ask(address: str, rows: list[Row]) -> Answers:
    data = [value for row in rows for value in row.values()]
    tensor = {"name": "X", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": data}
    with new_client(address) as client:
        assert client.get("/v2/health/ready").status_code == 200
        return Answers(
            plain=client.post("/predict", json={"features": rows}).json(),
            infer=client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]}).json(),
            metadata=client.get(f"/v2/models/{NAME}").json(),
        )


def _send_nonsense(address: str) -> None:
    """Requests that are wrong in every way, each with a value that must not be repeated anywhere."""
    row = BASELINE[0][0]
    tensor = {"name": "X", "shape": [1, 30], "datatype": "FP64", "data": [TEXT] * 30}
    with new_client(address) as client:
        for path, body in (
            ("/predict", {"features": [row | {"mean radius": TEXT}]}),
            ("/predict", {"features": [row | {"mean radius": f"0.{MARK}"}]}),
            ("/predict", {"features": [[float(f"0.{MARK}")]]}),
            ("/predict", {"features": TEXT}),
            (f"/v2/models/{NAME}/infer", {"inputs": [tensor]}),
            (f"/v2/models/{NAME}/infer", {"inputs": [tensor | {"shape": [30], "name": "mean radius"}]}),
            ("/feedback", {"id": "nobody", "label": TEXT}),
        ):
            answer = client.post(path, json=body)
            assert 400 <= answer.status_code < 500, (path, answer.status_code)
            assert MARK not in answer.text
            assert TEXT not in answer.text
        garbage = f'{{"features": [[0.{MARK}, "{TEXT}"'
        answer = client.post("/predict", content=garbage, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert MARK not in answer.text


def _serves_version_2(status: Object) -> bool:
    return bool((status.get("stable") or {}).get("number") == 2)


def _pods_of(space: Space, deployment: str) -> list[Object]:
    return [pod for pod in space.pods("server", NAME) if pod["metadata"]["name"].startswith(f"{deployment}-")]
