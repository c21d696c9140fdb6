"""Many rollouts of good and bad versions on a real node, under constant load, and what came of each.

Several ModelDeployments, each in a namespace with clients of its own, take the next version from one queue as soon as
they are through with the last.
"""

import itertools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from modelkit.contract.config import VersionRef
from tests.cluster.cluster_api import ApiError, wait_for
from tests.e2e.e2e_bucket import BucketServer
from tests.e2e.e2e_callers import Callers, Endpoint
from tests.e2e.e2e_environment import ROOT
from tests.e2e.e2e_manifests import build_deployment, build_secret
from tests.e2e.e2e_rollout_plan import Scenario, judge_record
from tests.e2e.e2e_rollout_report import UNFINISHED, Outcome, Run
from tests.e2e.e2e_space import Space
from tests.e2e.e2e_traffic import read_patients
from tests.e2e.e2e_versions import NAME, Kind, Workshop

Object = dict[str, Any]

REPORT = ROOT / "build" / "rollouts.json"
PATIENCE = 150.0
"""Seconds for one rollout, whatever its end."""
BUCKET, KEYS = "models", "keys"
ROWS = [row for row, _ in read_patients(0, 120)]
RESOURCES = {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "320Mi"}}
ROLLOUT: Object = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "hold": "3s"}, {"weight": 50, "hold": "3s"}],
    "comparePercent": 50,
    "bakeTime": "10s",
    "progressDeadline": "40s",
    "stepDeadline": "15s",
    # Several servers and their clients share two cores: an answer that waited for one isn't a slow model's.
    "analysis": {"interval": "1s", "minRequests": 30, "minCompared": 20, "latency": {"floor": "490ms"}},
}


class Lane:
    """One ModelDeployment and its clients."""

    def __init__(self, space: Space, store: "Shelf") -> None:
        self.space = space
        self._store = store
        first = store.put(Kind.GOOD)
        space.apply(build_secret(KEYS, store.keys), _manifest(store.refer(first)))

    def open(self) -> Callers:
        """The clients, once the first version answers."""
        self.space.wait_condition("ModelDeployment", NAME)
        host = self.space.address(NAME).split("//")[1].split(":")[0]
        ports = {port["name"]: port["nodePort"] for port in self.space.get("Service", NAME)["spec"]["ports"]}
        return Callers(Endpoint(host, ports["http"], ports["grpc"], NAME), ROWS)

    def begin(self, kind: Kind, rollout: Object | None = None) -> VersionRef:
        """Ask for a new version."""
        version = self._store.put(kind)
        self.space.patch(
            "ModelDeployment", NAME, {"model": self._store.refer(version), "rollout": {**ROLLOUT, **(rollout or {})}}
        )
        return version

    def annotate(self, name: str) -> None:
        """Ask for something as a person does: abort, rollback, …"""
        self.space.annotate("ModelDeployment", NAME, f"modelloop.dev/{name}", uuid.uuid4().hex)

    def status(self) -> Object:
        """Of the ModelDeployment."""
        return self.space.status("ModelDeployment", NAME)

    def wait_record(self, version: VersionRef) -> Object:
        """The rollout's entry in the history; raises AssertionError when it isn't there in time."""
        return self.space.wait(lambda: _find_record(self.status(), version), f"the end of {version.path}", PATIENCE)

    def wait_alone(self) -> None:
        """Until no pods but those of the stable version are left."""
        self.space.wait(lambda: len(self.space.pods("server", NAME)) == 1, "the end of the old pods")

    def roll_out(self, scenario: Scenario, kind: Kind, callers: Callers) -> Outcome:
        """One rollout from its beginning to its end."""
        if scenario.has_traffic:
            return self._roll_out(scenario, kind, callers)
        with callers.silence():
            return self._roll_out(scenario, kind, callers)

    def _roll_out(self, scenario: Scenario, kind: Kind, callers: Callers) -> Outcome:
        before = self.status()["stable"]["digest"]
        failed = len(callers.failures)
        began = time.monotonic()
        version = self.begin(kind)
        record, problems = _UNFINISHED, []
        try:
            record = self.wait_record(version)
        except AssertionError as exc:
            problems.append(f"{exc}; {json.dumps(self.status().get('rollout'))}")
        else:
            problems.append(judge_record(scenario, record))
        seconds = time.monotonic() - began
        stable = self.status()["stable"]["digest"]
        if stable != (before if scenario.reasons else version.digest):
            problems.append(f"{stable} serves")
        if new := callers.failures[failed:]:
            problems.append(f"{len(new)} requests failed: {new[:3]}")
        return Outcome(
            scenario=scenario.name,
            kind=kind,
            number=version.number,
            lane=self.space.name,
            result=record["result"],
            reason=record["reason"],
            message=record.get("message", ""),
            position=record.get("position", ""),
            seconds=round(seconds, 2),
            answered=callers.answers_of(version.number).count,
            problem="; ".join(filter(None, problems)),
        )


_UNFINISHED: Object = {"result": UNFINISHED, "reason": ""}


def _find_record(status: Object, version: VersionRef) -> Object | None:
    return next((entry for entry in status.get("history", []) if entry["digest"] == version.digest), None)


def _manifest(model: Object) -> Object:
    body = build_deployment(NAME, model=model, rollout=ROLLOUT, resources=RESOURCES)
    del body["spec"]["trainingRef"]
    return body


class Shelf:
    """Versions in a bucket that pods reach."""

    def __init__(self, address: str) -> None:
        self._server = BucketServer(address, (BUCKET,))
        self._workshop = Workshop(self._server.root / BUCKET)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def keys(self) -> dict[str, str]:
        """What the Secret for it holds."""
        return self._server.secret()

    def put(self, kind: Kind) -> VersionRef:
        """A new version of a kind, with a number of its own."""
        with self._lock:
            return self._workshop.write(kind, next(self._numbers))

    @staticmethod
    def refer(version: VersionRef) -> Object:
        """`spec.model` for it."""
        return {"uri": f"s3://{BUCKET}/{version.path}", "digest": version.digest, "secretRef": {"name": KEYS}}

    def close(self) -> None:
        """End the server and remove the versions."""
        self._server.stop()


@contextmanager
def open_lanes(spaces: Sequence[Space], shelf: Shelf) -> Iterator[list[tuple[Lane, Callers]]]:
    """A lane in each namespace, with clients that ask until this ends."""
    lanes = [Lane(space, shelf) for space in spaces]
    with ExitStack() as stack:
        yield [(lane, stack.enter_context(lane.open())) for lane in lanes]


def run_rollouts(
    lanes: Sequence[tuple[Lane, Callers]], plan: Sequence[tuple[Scenario, Kind]], tell: Callable[[str], None]
) -> Run:
    """All rollouts of the plan; each lane takes the next when it is through with one."""
    queue: SimpleQueue[tuple[Scenario, Kind]] = SimpleQueue()
    for entry in plan:
        queue.put(entry)
    run, lock = Run(), threading.Lock()

    def work(lane: Lane, callers: Callers) -> None:
        while True:
            try:
                scenario, kind = queue.get_nowait()
            except Empty:
                return
            try:
                outcome = lane.roll_out(scenario, kind, callers)
            except (ApiError, httpx.HTTPError) as exc:
                problem = f"the API server: {type(exc).__name__}: {exc}"
                outcome = Outcome(scenario=scenario.name, kind=kind, lane=lane.space.name, problem=problem)
            with lock:
                run.outcomes.append(outcome)
                tell(
                    f"{len(run.outcomes)}/{len(plan)} {outcome.scenario}: {outcome.result} {outcome.reason} "
                    f"in {outcome.seconds:.0f} s{': ' + outcome.problem if outcome.problem else ''}"
                )

    before = [(callers.requests, len(callers.failures)) for _, callers in lanes]
    began = time.monotonic()
    with ThreadPoolExecutor(len(lanes)) as pool:
        for done in [pool.submit(work, lane, callers) for lane, callers in lanes]:
            done.result()
    # The old pods of the last promotion end only now.
    for lane, _ in lanes:
        lane.wait_alone()
    run.seconds = time.monotonic() - began
    for (_, callers), (requests, failed) in zip(lanes, before, strict=True):
        run.requests += callers.requests - requests
        run.failures += callers.failures[failed:]
        run.latencies += callers.seconds[requests:]
    return run


def wait_answers(callers: Callers, version: VersionRef, count: int) -> None:
    """Until clients have got that many answers of a version."""
    wait_for(
        lambda: callers.answers_of(version.number).count >= count,
        PATIENCE,
        what=f"{count} answers of version {version.number}",
    )
