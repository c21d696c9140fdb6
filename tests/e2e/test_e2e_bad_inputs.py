"""Every mistake ends in a condition that helps, within 30 s, and goes away when it is mended; what served serves on.

The mistakes are made in a few waves, beside a model that serves under load, then all are mended at once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from tests.cluster.cluster_api import condition_of
from tests.e2e.e2e_bad_cases import ABSENT_IMAGE, CASES, WAVES, WRITE_DATA, Case
from tests.e2e.e2e_manifests import SMALL, build_deployment, build_training, to_text
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import Load, new_client

PROMISED_SECONDS = 30.0
GOOD = "good"
ROW = {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2}
Object = dict[str, Any]


def prepare(space: Space) -> None:
    space.apply(build_training(GOOD, data={"uri": "builtin://iris", "target": "target"}, gates=[]))
    space.apply(build_deployment(GOOD))
    space.start_tools(data=True)


@pytest.fixture(scope="module")
def load(space: Space) -> Iterator[Load]:
    """Constant requests to the model that serves, from before the first mistake to after the last mending."""
    space.wait_condition("ModelDeployment", GOOD)
    with Load(space.address(GOOD), [ROW], connections=2, pause=0.1) as load:
        yield load


@pytest.fixture(scope="module")
def seen(space: Space, load: Load) -> dict[str, tuple[float, Object]]:
    """Seconds from the mistake to its condition, and the condition, by name of the custom resource."""
    space.exec(WRITE_DATA)
    found: dict[str, tuple[float, Object]] = {}
    for wave in WAVES:
        _make_mistakes(space, wave, found)
    return found


def _make_mistakes(space: Space, cases: Sequence[Case], found: dict[str, tuple[float, Object]]) -> None:
    """Apply `cases` and fill `found` as their conditions appear; gives up when the promised time is long over."""
    causes = {}
    for case in cases:
        causes[case.name] = time.monotonic()
        space.apply(*case.others, case.body)

    def look() -> bool:
        for case in cases:
            ready = space.condition(case.kind, case.name, "Ready")
            if case.name not in found and ready.get("reason") == case.reason:
                found[case.name] = (time.monotonic() - causes[case.name], ready)
                print(f"{case.name}: {case.reason} after {found[case.name][0]:.1f} s")
        return all(case.name in found for case in cases)

    # What is missing is for the test of that case to say.
    with suppress(AssertionError):
        space.wait(look, "the conditions of all mistakes", 1.5 * PROMISED_SECONDS)


@pytest.fixture(scope="module")
def mended(space: Space, seen: dict[str, tuple[float, Object]]) -> None:
    """Everything is put right."""
    for case in CASES:
        case.mend(space)


def _names(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_names)
def test_a_mistake_ends_within_30_seconds_in_a_condition_that_names_it_and_what_to_do(
    space: Space, seen: dict[str, tuple[float, Object]], case: Case
) -> None:
    assert case.name in seen, f"no condition {case.reason}: {space.status(case.kind, case.name).get('conditions')}"
    seconds, ready = seen[case.name]
    assert seconds < PROMISED_SECONDS
    assert ready["status"] == "False"
    for words in case.words:
        assert words in ready["message"]


def test_what_is_the_fault_of_data_or_specification_is_never_retried(
    space: Space, seen: dict[str, tuple[float, Object]]
) -> None:
    for case in CASES:
        if not case.is_refused:
            continue
        # The condition may be there before the run's record: the pod tells why before its Job has failed.
        status = space.wait_status("ModelTraining", case.name, lambda status: "run" not in status, "the run's end")
        pods = space.pods("trainer", case.name)
        assert (len(pods), status["runs"], len(status["history"])) == (1, 1, 1), case.name
        assert "champion" not in status


@pytest.mark.parametrize(
    ("kind", "bad", "good", "reason"),
    [
        ("ModelDeployment", {"image": ABSENT_IMAGE}, {"image": None}, "ImagePullFailed"),
        (
            "ModelDeployment",
            {"resources": {"limits": {"memory": "24Mi"}, "requests": {"memory": "16Mi"}}},
            {"resources": {**SMALL, "limits": None}},
            "OutOfMemory",
        ),
        ("ModelDeployment", {"trainingRef": {"name": "gone"}}, {"trainingRef": {"name": GOOD}}, "TrainingNotFound"),
        ("ModelTraining", {"data": {"target": "gone"}}, {"data": {"target": "target"}}, "ColumnNotFound"),
    ],
    ids=["server image", "server memory", "training reference", "data"],
)
def test_a_mistake_in_what_serves_costs_no_answer_and_is_mended(
    space: Space, load: Load, kind: str, bad: Object, good: Object, reason: str
) -> None:
    digest = space.status("ModelDeployment", GOOD)["stable"]["digest"]
    space.patch(kind, GOOD, bad)
    ready = space.wait_condition(kind, GOOD, "Ready", "False", reason=reason, timeout=PROMISED_SECONDS)
    assert "version 1 answers meanwhile" in ready["message"] or "version 1 stays the champion" in ready["message"]
    assert space.condition("ModelDeployment", GOOD, "Available")["status"] == "True"
    space.patch(kind, GOOD, good)
    space.wait_condition(kind, GOOD, "Ready")
    assert space.status("ModelDeployment", GOOD)["stable"]["digest"] == digest
    load.require_no_failure()


@pytest.mark.parametrize("case", CASES, ids=_names)
def test_what_is_mended_becomes_ready_and_says_nothing_of_the_mistake(space: Space, mended: None, case: Case) -> None:
    space.wait_condition(case.kind, case.name, "Ready")
    body = space.get(case.kind, case.name)
    assert condition_of(body, "Stalled") == {}
    assert all(case.reason != condition["reason"] for condition in body["status"]["conditions"])


def test_the_model_that_served_answered_every_request(space: Space, load: Load, mended: None) -> None:
    load.require_no_failure()
    assert load.tally.versions == {"1"}
    with new_client(space.address(GOOD)) as client:
        assert client.post("/predict", json={"features": [ROW]}).json()["predictions"] == [0]


def _typo(body: Object) -> None:
    body["spec"]["candidats"] = body["spec"].pop("candidates")


def _estimator(body: Object) -> None:
    body["spec"]["candidates"] = [{"estimator": "LogisticRegresion"}]


def _uri(body: Object) -> None:
    body["spec"]["data"]["uri"] = "/home/me/rows.csv"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_typo, ("unknown field", "spec.candidats")),
        (_estimator, ("spec.candidates[0].estimator", "LogisticRegresion", '"LogisticRegression"')),
        (_uri, ("spec.data.uri", "must start with builtin://, pvc://, s3://, gs://, az://, https:// or work://")),
    ],
    ids=["unknown field", "unknown estimator", "data address"],
)
def test_kubectl_apply_refuses_what_no_run_could_use(
    space: Space, spoil: Callable[[Object], None], words: tuple[str, ...]
) -> None:
    body = build_training("spoiled")
    spoil(body)
    with pytest.raises(RuntimeError) as refused:
        space.kubectl("apply", "-f", "-", stdin=to_text(body))
    for text in words:
        assert text in str(refused.value)
