"""Model building by declaration on a real node: from a table of customers to a version that a person approves.

One rich specification goes through everything that a careful practitioner would do; beside it runs of the user's own
program, of a preparation step and of a signed version.
"""

import json
from typing import Any

import httpx
import pytest

from tests.e2e.e2e_customers import ROW, SENIORS, WRITE_CUSTOMERS, WRITE_LARGE
from tests.e2e.e2e_manifests import build_claim, build_deployment, build_training
from tests.e2e.e2e_space import DATA_CLAIM, STORE_CLAIM, Space

Object = dict[str, Any]
NAME = "churn"
FILE = "customers.csv"
RICH: Object = {
    "data": {"uri": f"pvc://{DATA_CLAIM}/{FILE}", "target": "churned", "group": "household"},
    "validation": {"columns": [{"name": "age", "type": "Number", "min": 18, "max": 120, "maxMissingShare": 0}]},
    "candidates": [
        {
            "estimator": "LogisticRegression",
            "params": {"max_iter": 1000},
            "search": [{"name": "C", "type": "Float", "min": 0.01, "max": 10, "log": True}],
        },
        {
            "estimator": "DecisionTreeClassifier",
            "search": [{"name": "max_depth", "type": "Int", "min": 1, "max": 6}],
        },
    ],
    "tuning": {"method": "TPE", "trials": 10, "parallelism": 2},
    "featureSelection": {"method": "AnovaF", "share": 0.5},
    "metric": "roc_auc",
    "slices": [SENIORS],
    "gates": [{"metric": "roc_auc", "min": 0.7}, {"metric": "accuracy", "slice": "seniors", "min": 0.55}],
    "explain": {"shapRows": 50},
    "compress": {"methods": ["Pruning"], "maxDrop": 0.05},
    "approval": "Manual",
    "deadline": "20m",
    "schedule": "0 3 1 1 *",
    "budget": {"cpuHours": 1},
}


def prepare(space: Space) -> None:
    space.apply(build_claim(STORE_CLAIM))
    space.start_tools(data=True)
    space.begin(lambda: _train(space))


def _train(space: Space) -> Object:
    space.exec(WRITE_CUSTOMERS, f"/data/{FILE}", "3000", "1")
    space.apply(build_training(NAME, **RICH))
    status = space.wait_status("ModelTraining", NAME, lambda status: bool(status.get("history")), "the end of the run")
    record: Object = status["history"][0]
    return record


@pytest.fixture(scope="module")
def record(space: Space) -> Object:
    """The rich run's record."""
    found: Object = space.await_begun()
    return found


def version_file(space: Space, record: Object, name: str) -> bytes:
    """A file of the run's version."""
    return space.read_store(f"{record['path']}/{name}")


def test_the_run_passes_its_gates_and_tells_what_it_cost(record: Object) -> None:
    assert record["verdict"] == "Approved", record
    assert record["metrics"]["roc_auc"] > 0.7
    cost = record["cost"]
    assert not cost.get("estimated")
    assert cost["cpuSeconds"] > 1
    assert cost["memoryGibSeconds"] > 0
    assert cost["energyWattHours"] > 0
    assert cost["co2eGrams"] > 0
    assert "modelloop-trainer" in record["image"] or "sha256:" in record["image"]


def test_the_version_holds_what_a_person_asks_for(space: Space, record: Object) -> None:
    metrics = json.loads(version_file(space, record, "metrics.json"))
    assert set(metrics["metrics"]) <= set(metrics["intervals"]["bounds"]) | {"calibration_error"}
    (seniors,) = metrics["slices"]
    assert seniors["name"] == "seniors"
    assert seniors["rows"] > 100
    page = version_file(space, record, "card.html").decode()
    assert page.count("<svg") >= 5
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "")
    explanation = json.loads(version_file(space, record, "explanation.json"))
    assert {"age", "country", "comment", "signup"} <= set(json.dumps(explanation).replace('"', " ").split())


def test_the_workers_shared_the_search_and_are_gone(space: Space, record: Object) -> None:
    (trainer,) = space.pods("trainer", NAME)
    logs = space.collect_logs()[trainer["metadata"]["name"]]
    joined = [json.loads(line)["most"] for line in logs.splitlines() if '"message": "workers"' in line]
    assert joined == [2]
    own = trainer["metadata"]["labels"]["batch.kubernetes.io/job-name"]
    space.wait(lambda: [job["metadata"]["name"] for job in space.objects("Job")] == [own], "the end of the workers")


def test_a_version_waits_for_a_person_and_is_served_then(space: Space, record: Object) -> None:
    waiting = space.wait_condition("ModelTraining", NAME, "Approved", "Unknown", reason="AwaitingApproval")
    assert "modelloop.dev/approve" in waiting["message"]
    assert "champion" not in space.status("ModelTraining", NAME)
    space.annotate("ModelTraining", NAME, "modelloop.dev/approve", str(record["number"]))
    space.wait_condition("ModelTraining", NAME)
    space.apply(build_deployment(NAME))
    space.wait_condition("ModelDeployment", NAME)
    answer = httpx.post(f"{space.address(NAME)}/predict", json={"features": [ROW]}, trust_env=False, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [1]


def test_the_schedule_says_when_it_runs_next(space: Space, record: Object) -> None:
    schedule = space.status("ModelTraining", NAME)["schedule"]
    assert schedule["nextScheduleTime"].endswith("-01-01T03:00:00Z")


def test_data_that_breaks_its_rules_is_refused_and_the_champion_stays(space: Space, record: Object) -> None:
    space.wait(lambda: space.status("ModelTraining", NAME).get("champion"), "the champion")
    text = space.read(f"/data/{FILE}").decode()
    head, *rows = text.splitlines()
    spoilt = [head, *(f"{-5},{row.split(',', 1)[1]}" if index % 3 == 0 else row for index, row in enumerate(rows))]
    space.write(f"/data/{FILE}", "\n".join(spoilt).encode())
    space.annotate("ModelTraining", NAME, "modelloop.dev/run", "spoilt")
    failed = space.wait_condition("ModelTraining", NAME, "RunSucceeded", "False")
    assert failed["reason"] == "DataInvalid"
    assert "'age'" in failed["message"]
    assert space.status("ModelTraining", NAME)["champion"]["number"] == record["number"]
    jobs = [job for job in space.objects("Job") if job["metadata"]["name"].startswith(NAME)]
    assert max(job["status"].get("failed", 0) for job in jobs) == 1, "data that is bad was tried again"


def test_data_over_the_pods_memory_is_refused_before_the_node_kills_it(space: Space) -> None:
    space.exec(WRITE_LARGE, "/data/large.parquet")
    data = {"uri": f"pvc://{DATA_CLAIM}/large.parquet", "target": "target"}
    space.apply(build_training("large", data=data, resources={"limits": {"memory": "512Mi"}}))
    failed = space.wait_condition("ModelTraining", "large", "RunSucceeded", "False")
    assert failed["reason"] == "DataTooLarge", failed
    assert "GiB" in failed["message"]
    assert "512" in failed["message"]
    (job,) = [job for job in space.objects("Job") if job["metadata"]["name"].startswith("large")]
    assert job["status"]["failed"] == 1
