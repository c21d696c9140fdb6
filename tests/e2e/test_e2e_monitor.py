"""Everything that a monitor looks at, on a real node: steady traffic is well, a changed world is told with evidence.

One model with categories, gaps, groups of people and a column that nobody may keep; a webhook receiver in the cluster.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from modelkit.contract.files import REPORT_HTML, REPORT_JSON
from modelkit.contract.result import CHECKS
from tests.e2e.e2e_loans import MARK, draw_loans, send_loans, write_loans
from tests.e2e.e2e_manifests import (
    build_claim,
    build_deployment,
    build_monitor,
    build_pod,
    build_secret,
    build_training,
)
from tests.e2e.e2e_space import DATA_CLAIM, STORE_CLAIM, Space

Object = dict[str, Any]
NAME, SCHEDULED, RECEIVER = "loans", "loans-each-minute", "receiver"
STEADY, CHANGED = draw_loans(300, 2), draw_loans(700, 3, is_changed=True)
RECEIVE = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_known = self.headers.get("Authorization") == "Bearer secret-token"
        print("GOT", is_known, self.headers.get("Idempotency-Key"), body, flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Looks:
    """What was seen."""

    steady: Object
    changed: Object
    again: Object
    """The same rows, looked at once more."""


def prepare(space: Space) -> None:
    space.apply(build_claim(STORE_CLAIM))
    space.start_tools(data=True)
    space.apply(build_pod(RECEIVER, space.kube.images["trainer"], RECEIVE, {}))
    space.begin(lambda: tell(space))


def tell(space: Space) -> Looks:
    """Train, serve, and look at steady traffic and at a changed world."""
    space.write("/data/loans.csv", write_loans(draw_loans(3000, 1, postcode="")))
    receiver = space.wait(lambda: space.get("Pod", RECEIVER)["status"].get("podIP"), "the receiver's address")
    url = f"http://{receiver}:8080/hooks/T0/B1"
    space.apply(
        build_secret("hooks", {"url": url, "token": "secret-token"}),
        build_training(
            NAME,
            data={
                "uri": f"pvc://{DATA_CLAIM}/loans.csv",
                "target": "paid",
                "columns": [{"name": "postcode", "type": "Category"}],
            },
            candidates=[{"estimator": "LogisticRegression", "params": {"max_iter": 1000}}],
            metric="accuracy",
            gates=[{"metric": "accuracy", "min": 0.7}],
        ),
        build_deployment(NAME, capture={"columns": [{"name": "postcode", "action": "Drop"}]}),
        build_monitor(
            NAME,
            fairness={
                "columns": ["sex"],
                "positiveClass": "yes",
                "maxParityDifference": 0.3,
                "maxOpportunityDifference": 0.3,
            },
            attribution={"rows": 60},
            service={"maxLatency": "5s"},
            notify={"secretName": "hooks"},
            window="1h",
        ),
        build_monitor(SCHEDULED, NAME, schedule="* * * * *"),
    )
    space.wait_condition("ModelDeployment", NAME)
    address = space.address(NAME)
    send_loans(address, STEADY)
    space.wait_captured(NAME, len(STEADY))
    steady = space.look(NAME)
    send_loans(address, CHANGED)
    space.wait_captured(NAME, len(STEADY) + len(CHANGED))
    space.wait_status("ModelMonitor", SCHEDULED, lambda status: bool(status.get("windows")), "a window of the schedule")
    # Other tests measure times beside it.
    space.patch("ModelMonitor", SCHEDULED, {"suspend": True})
    return Looks(steady, space.look(NAME), space.look(NAME))


@pytest.fixture(scope="module")
def looks(space: Space) -> Looks:
    """The windows, as they came beside other tests."""
    told: Looks = space.await_begun()
    return told


def states(window: Object) -> dict[str, str]:
    return {check["name"]: check["state"] for check in window["checks"]}


def test_every_check_looks_at_steady_traffic_and_finds_nothing(looks: Looks) -> None:
    assert [check["name"] for check in looks.steady["checks"]] == list(CHECKS)
    found = states(looks.steady)
    # The servers' counts of a minute belong to the window in which it ends: the first one may see none.
    assert found.pop("Service") in ("OK", "Unknown")
    # Nothing can be explained without the column that captures drop.
    assert found.pop("AttributionDrift") == "Unknown"
    assert set(found.values()) == {"OK"}, looks.steady["checks"]


def test_a_changed_world_breaches_the_checks_that_it_concerns_and_names_what_changed(looks: Looks) -> None:
    found = states(looks.changed)
    bad = {name for name, state in found.items() if state == "Breached"}
    assert {"DataQuality", "Drift", "MultivariateDrift", "PredictionDrift", "Quality", "Calibration"} <= bad, found
    assert found["Service"] == "OK"
    checks = {check["name"]: check for check in looks.changed["checks"]}
    assert {"income", "region"} <= {finding["name"] for finding in checks["Drift"]["worst"]}
    assert checks["DataQuality"]["worst"][0]["name"] == "region"
    assert {finding["name"] for finding in checks["Fairness"]["worst"]} <= {"sex=f", "sex=m"}


def test_reports_show_the_evidence_and_keep_what_nobody_may_see(space: Space, looks: Looks) -> None:
    folder, name = looks.changed["report"].rsplit("/", 1)
    assert name == REPORT_HTML
    page = space.read_store(looks.changed["report"]).decode()
    report = json.loads(space.read_store(f"{folder}/{REPORT_JSON}"))
    assert "income" in page
    assert "<script" not in page
    assert report["redactedFeatures"] == ["postcode"]
    assert "postcode" not in [feature["name"] for feature in report["features"]]
    everything = space.exec(COUNT_MARK, MARK, "/var/lib/modelloop/store")
    # The training data are the user's own; of the requests no postcode is anywhere.
    assert json.loads(everything) == []


COUNT_MARK = """
import glob, gzip, json, sys
mark, root, found = sys.argv[1].encode(), sys.argv[2], []
for folder in ("captures", "reports", "summaries"):
    for path in glob.glob(f"{root}/{folder}/**/*", recursive=True):
        try:
            data = gzip.open(path).read() if path.endswith(".gz") else open(path, "rb").read()
        except IsADirectoryError:
            continue
        found += [path] if mark in data else []
print(json.dumps(found))
"""


def test_the_timeline_has_a_line_for_each_window(space: Space, looks: Looks) -> None:
    status = space.status("ModelMonitor", NAME)
    points = {point["end"]: point for point in status["timeline"]}
    for window in (looks.steady, looks.changed, looks.again):
        assert points[window["end"]]["rows"] == window["rows"]
    assert [points[window["end"]]["state"] for window in (looks.steady, looks.changed)] == ["OK", "Breached"]
    assert points[looks.changed["end"]]["feature"] in ("income", "region")
    assert points[looks.changed["end"]]["quality"] < points[looks.steady["end"]]["quality"]


def test_a_webhook_is_told_once_when_something_changes(space: Space, looks: Looks) -> None:
    log = space.kube.read_text(f"/api/v1/namespaces/{space.name}/pods/{RECEIVER}/log")
    got = [line.split(" ", 3) for line in log.splitlines() if line.startswith("GOT")]
    assert len(got) == 1, got
    _, is_known, key, body = got[0]
    message = json.loads(body)
    assert is_known == "True"
    assert key == message["id"]
    assert message["state"] == "Breached"
    assert message["report"] == looks.changed["report"]
    logs = "\n".join(space.collect_logs().values())
    assert "secret-token" not in logs.replace(log, "")
    assert "/hooks/T0/B1" not in logs.replace(log, "")


def test_a_window_of_the_schedule_ends_at_the_minute_that_it_was_due(space: Space, looks: Looks) -> None:
    windows = space.status("ModelMonitor", SCHEDULED)["windows"]
    assert {datetime.fromisoformat(window["end"]).second for window in windows} == {0}
