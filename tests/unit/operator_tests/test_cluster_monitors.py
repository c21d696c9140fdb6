"""Several monitors of one model, and people, in whole passes of the operator."""

from datetime import timedelta
from typing import Any

from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.api_server import ApiServer
from tests.unit.operator_tests.operator_states import NOW, digest_of, window
from tests.unit.operator_tests.whole_operator import DEPLOYMENT, MONITOR, TRAINING, Operator, condition, settled

Object = dict[str, Any]
OTHER: Object = {**MONITOR, "metadata": {**MONITOR["metadata"], "name": "quality"}}


def watched(**deployment: Any) -> tuple[ApiServer, Operator]:
    """A served version with two monitors."""
    server = ApiServer()
    for body in (TRAINING, {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], **deployment}}, MONITOR, OTHER):
        server.add(body)
    operator = Operator(server)
    settled(server, operator)
    return server, operator


def tell(server: ApiServer, operator: Operator, name: str, *, state: str = "Breached", number: int = 1) -> None:
    """A monitor's pod writes two windows."""
    windows = [
        window(minutes, state=state, number=number).model_dump(mode="json", by_alias=True) for minutes in (-30, -15)
    ]
    operator.cluster.observe("ModelMonitor", server.change("ModelMonitor", name, status={"windows": windows}))


def runs(server: ApiServer) -> int:
    count: int = server.objects["ModelTraining", "team", "cancer"]["status"]["runs"]
    return count


def test_two_monitors_that_alarm_at_once_lead_to_one_run() -> None:
    server, operator = watched()
    digest = server.objects["ModelDeployment", "team", "cancer"]["status"]["stable"]["digest"]
    assert digest == digest_of(1)
    for name in ("drift", "quality"):
        tell(server, operator, name)
    operator.work()
    assert runs(server) == 2
    asked = [server.objects["ModelMonitor", "team", name]["status"].get("retrain") for name in ("drift", "quality")]
    assert sum(request is not None for request in asked) == 1
    waiting = "quality" if asked[0] else "drift"
    assert condition(server, "ModelMonitor", waiting, ConditionType.RETRAINING)["reason"] == "Running"


def test_a_person_asks_by_an_annotation() -> None:
    server, operator = watched()
    tell(server, operator, "drift", state="OK")
    operator.work()
    assert runs(server) == 1
    asked = server.change("ModelMonitor", "drift", metadata={"annotations": {"modelloop.dev/retrain": "please"}})
    operator.cluster.observe("ModelMonitor", asked)
    operator.work()
    assert runs(server) == 2
    assert server.objects["ModelMonitor", "team", "drift"]["status"]["handledToken"] == "please"
    settled(server, operator)
    operator.wait(timedelta(hours=2))
    assert runs(server) == 2


def test_an_alarm_in_the_bake_time_brings_the_version_before_back() -> None:
    server, operator = watched(rollout={"bakeTime": "1h"})
    operator.cluster.observe("ModelTraining", server.change("ModelTraining", "cancer", spec={"seed": 5}))
    for _ in range(6):
        operator.wait(timedelta(seconds=5))
        settled(server, operator)
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["rollout"]["state"]) == (2, "Baking")
    tell(server, operator, "drift", number=2)
    operator.work()
    status = server.objects["ModelDeployment", "team", "cancer"]["status"]
    assert (status["stable"]["number"], status["history"][0]["reason"]) == (1, "Breached")
    assert runs(server) == 2
    assert operator.now >= NOW
