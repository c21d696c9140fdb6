"""A bad version costs nobody a failed request and ends rolled back for the right reason; a good one is promoted.

`make test-rollouts` runs many of them; here it is as many as cover every scenario.
"""

import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.cluster.cluster_api import ApiError
from tests.e2e.e2e_callers import Callers
from tests.e2e.e2e_operator import Operator
from tests.e2e.e2e_rollout_plan import plan_rollouts
from tests.e2e.e2e_rollout_report import Run, report
from tests.e2e.e2e_rollouts import REPORT, Lane, Shelf, open_lanes, run_rollouts, wait_answers
from tests.e2e.e2e_space import Kube, Space
from tests.e2e.e2e_versions import Kind

COUNT = int(os.environ.get("MODELLOOP_ROLLOUTS", "12"))
SEED = int(os.environ.get("MODELLOOP_ROLLOUTS_SEED", "0"))
LANES = int(os.environ.get("MODELLOOP_ROLLOUTS_LANES", "3"))
DISTURBED = max(12, COUNT // 10)
"""Rollouts while the operator is killed."""
FLIP_SECONDS = 2.0
WATCH_SECONDS = 4.0
KILL_SECONDS = (8.0, 30.0)

Lanes = list[tuple[Lane, Callers]]


@pytest.fixture(scope="module")
def lanes(kube: Kube) -> Iterator[Lanes]:
    """ModelDeployments that serve, under load until all tests are over."""
    shelf = Shelf(kube.environment.host_address)
    suffix = uuid.uuid4().hex[:5]
    spaces = [Space(kube, f"rollouts-{number}-{suffix}") for number in range(LANES)]
    try:
        with open_lanes(spaces, shelf) as opened:
            yield opened
    finally:
        for space in spaces:
            kube.api.delete("Namespace", None, space.name)
        shelf.close()


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def require_right(run: Run, count: int) -> None:
    assert len(run.outcomes) == count
    assert not run.failures, f"{len(run.failures)} of {run.requests} requests failed: {run.failures[:5]}"
    assert not run.problems, [(found.scenario, found.result, found.reason, found.problem) for found in run.problems]


@pytest.mark.timeout(300 + 60 * COUNT)
def test_every_bad_version_is_rolled_back_every_good_one_promoted_and_no_request_fails(lanes: Lanes) -> None:
    run = run_rollouts(lanes, plan_rollouts(COUNT, SEED), say)
    report(run, REPORT)
    require_right(run, COUNT)


def watch(callers: Callers) -> None:
    """Let the clients ask on, longer than a change may take."""
    time.sleep(WATCH_SECONDS)
    assert not callers.failures, callers.failures[:5]


def test_after_an_abort_the_candidate_answers_nobody_within_two_seconds(lanes: Lanes) -> None:
    lane, callers = lanes[0]
    version = lane.begin(Kind.GOOD, {"steps": [{"weight": 50, "hold": "1h"}]})
    wait_answers(callers, version, 20)
    asked = time.monotonic()
    lane.annotate("abort")
    record = lane.wait_record(version)
    assert (record["result"], record["reason"]) == ("Aborted", "Aborted")
    watch(callers)
    seconds = callers.answers_of(version.number).last - asked
    say(f"abort: the candidate's last answer was to a request {seconds:.2f} s after the annotation")
    assert seconds < FLIP_SECONDS


def test_after_a_rollback_in_the_bake_window_the_old_version_alone_answers_within_two_seconds(lanes: Lanes) -> None:
    lane, callers = lanes[0]
    old = lane.status()["stable"]
    version = lane.begin(Kind.GOOD, {"bakeTime": "1h"})
    lane.space.wait(lambda: (lane.status().get("rollout") or {}).get("state") == "Baking", "the promotion")
    watch(callers)
    asked = time.monotonic()
    lane.annotate("rollback")
    record = lane.wait_record(version)
    assert (record["result"], record["reason"]) == ("RolledBack", "Aborted")
    lane.wait_alone()
    watch(callers)
    seconds = callers.answers_of(version.number).last - asked
    say(f"rollback: the new version's last answer was to a request {seconds:.2f} s after the annotation")
    assert seconds < FLIP_SECONDS
    assert lane.status()["stable"]["digest"] == old["digest"]


@contextmanager
def killed_at_random(operator: Operator, seed: int) -> Iterator[list[str]]:
    """Kill the operator again and again while this lasts; what was done, in words."""
    stop, done, rng = threading.Event(), list[str](), random.Random(seed)

    def run() -> None:
        # A Lease that nobody gave up lasts 15 s: in the rest of the time the operator works.
        while not stop.wait(rng.uniform(*KILL_SECONDS)):
            # At another time there is no process or no pod just now.
            with suppress(RuntimeError, ApiError):
                how = rng.choice((operator.crash, operator.kill))
                how()
                done.append(how.__name__)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(600 + 120 * DISTURBED)
def test_an_operator_that_is_killed_at_random_changes_no_outcome_and_costs_no_request(
    lanes: Lanes, operator: Operator
) -> None:
    with killed_at_random(operator, SEED) as kills:
        run = run_rollouts(lanes, plan_rollouts(DISTURBED, SEED + 1), say)
    operator.wait_until_it_leads()
    say(f"the operator was killed {len(kills)} times: {kills}")
    report(run, REPORT.with_name("rollouts-disturbed.json"))
    require_right(run, DISTURBED)
    assert kills
