"""Many rollouts of good and bad versions on a real node, under constant load, and what came of each.

Several ModelDeployments, each in a namespace with clients of its own, take the next version from one queue as soon as
they are through with the last.
"""

import itertools
import json
import random
import statistics
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from rich.console import Console
from rich.table import Table

from modelkit.contract.config import VersionRef
from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_bucket import BucketServer
from tests.e2e.e2e_callers import Callers, Endpoint
from tests.e2e.e2e_environment import ROOT
from tests.e2e.e2e_manifests import build_deployment, build_secret
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
STEPS = [{"weight": 20, "hold": "3s"}, {"weight": 50, "hold": "3s"}]
ROLLOUT: Object = {
    "strategy": "Canary",
    "steps": STEPS,
    "comparePercent": 50,
    "bakeTime": "10s",
    "progressDeadline": "40s",
    "stepDeadline": "15s",
    # Several servers and their clients share two cores: an answer that waited for one isn't a slow model's.
    "analysis": {"interval": "1s", "minRequests": 30, "minCompared": 20, "latency": {"floor": "150ms"}},
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A sort of version, and how its rollout must end."""

    name: str
    kinds: tuple[Kind, ...]
    """Taken in turn."""
    reasons: frozenset[str] = frozenset()
    """Any of these ends it; none: it must be promoted."""
    has_traffic: bool = True


GOOD = Scenario("good", (Kind.GOOD,))
BAD = (
    Scenario("wrong answers", (Kind.WRONG_ANSWERS,), frozenset({"Disagreement", "PredictionDistance"})),
    Scenario("500s", (Kind.ERRORS,), frozenset({"SuccessRatio"})),
    # So slow that it falls behind: what isn't answered in time counts as failed.
    Scenario("slow", (Kind.SLOW,), frozenset({"Latency", "LatencyRatio", "SuccessRatio"})),
    Scenario(
        "crash at start",
        (Kind.DIES_AT_START, Kind.UNLOADABLE, Kind.SAMPLES_DIFFER),
        frozenset({"CrashLoop", "Exited", "ModelNotLoadable", "SamplesDiffer"}),
    ),
    Scenario("crash under load", (Kind.DIES,), frozenset({"CrashLoop", "Exited", "SuccessRatio"})),
    Scenario("out of memory", (Kind.TAKES_MEMORY,), frozenset({"OutOfMemory", "SuccessRatio"})),
    Scenario("wrong digest", (Kind.CHANGED,), frozenset({"DigestMismatch"})),
    Scenario("shape mismatch", (Kind.OTHER_INPUTS,), frozenset({"SuccessRatio"})),
    Scenario("no traffic", (Kind.GOOD,), frozenset({"NoTraffic"}), has_traffic=False),
)


def plan_rollouts(count: int, seed: int) -> list[tuple[Scenario, Kind]]:
    """`count` rollouts in random order: half of them good, or fewer where every bad scenario wouldn't have its turn."""
    bad = max(count // 2, min(count, len(BAD)))
    chosen = [(GOOD, Kind.GOOD)] * (count - bad)
    for turn, scenario in zip(range(bad), itertools.cycle(BAD), strict=False):
        chosen.append((scenario, scenario.kinds[turn // len(BAD) % len(scenario.kinds)]))
    random.Random(seed).shuffle(chosen)
    return chosen


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rollout ended."""

    scenario: str
    kind: str
    number: int
    """Of the version, as its answers name it."""
    lane: str
    result: str
    """Promoted or another result of the history; Unfinished."""
    reason: str
    message: str
    position: str
    seconds: float
    """From the change of the spec to the end in the history."""
    answered: int
    """Requests of clients that the version answered before the end."""
    problem: str
    """What is wrong with this outcome; empty: nothing."""


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
        record, problem = _UNFINISHED, ""
        try:
            record = self.wait_record(version)
        except AssertionError as exc:
            problem = f"{exc}; {json.dumps(self.status().get('rollout'))}"
        seconds = time.monotonic() - began
        stable = self.status()["stable"]["digest"]
        wanted = before if scenario.reasons else version.digest
        if not problem and stable != wanted:
            problem = f"{stable} serves; expected {wanted}"
        if new := callers.failures[failed:]:
            problem += f" {len(new)} requests failed: {new[:3]}"
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
            problem=problem.strip() or judge_record(scenario, record),
        )


_ENDS_BADLY = ("Failed", "RolledBack")
"""Before it got traffic, and after."""
_UNFINISHED: Object = {"result": "Unfinished", "reason": ""}


def _find_record(status: Object, version: VersionRef) -> Object | None:
    return next((entry for entry in status.get("history", []) if entry["digest"] == version.digest), None)


def judge_record(scenario: Scenario, record: Object) -> str:
    """What is wrong with how a rollout ended; empty: nothing."""
    result, reason = record["result"], record["reason"]
    if result not in (_ENDS_BADLY if scenario.reasons else ("Promoted",)):
        return f"a version that is {scenario.name!r} ended {result}"
    if scenario.reasons and reason not in scenario.reasons:
        return f"the reason {reason} is none of {', '.join(sorted(scenario.reasons))}"
    return ""


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


@dataclass(slots=True)
class Run:
    """What came of many rollouts."""

    outcomes: list[Outcome] = field(default_factory=list)
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def problems(self) -> list[Outcome]:
        """Those that didn't end as they must."""
        return [outcome for outcome in self.outcomes if outcome.problem]


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
            outcome = lane.roll_out(scenario, kind, callers)
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


def report(run: Run, path: Path) -> None:
    """Print a table by scenario and write every outcome to a file."""
    table = Table(title=f"{len(run.outcomes)} rollouts in {run.seconds:.0f} s", title_justify="left")
    for column in ("scenario", "rollouts", "right", "results", "reasons", "seconds", "its answers"):
        table.add_column(column)
    for name in (GOOD.name, *(scenario.name for scenario in BAD)):
        found = [outcome for outcome in run.outcomes if outcome.scenario == name]
        if not found:
            continue
        seconds = [outcome.seconds for outcome in found]
        table.add_row(
            name,
            str(len(found)),
            str(sum(not outcome.problem for outcome in found)),
            _tally(outcome.result for outcome in found),
            _tally(outcome.reason for outcome in found),
            f"{statistics.median(seconds):.1f} (most {max(seconds):.1f})",
            f"{statistics.median(outcome.answered for outcome in found):.0f}",
        )
    Console(width=None if Console().is_terminal else 150).print(table)
    latencies = sorted(run.latencies)
    summary = {
        "rollouts": len(run.outcomes),
        "seconds": round(run.seconds, 1),
        "requests": run.requests,
        "failedRequests": len(run.failures),
        "failures": run.failures[:100],
        "p50Milliseconds": _quantile(latencies, 0.5),
        "p99Milliseconds": _quantile(latencies, 0.99),
        "maxMilliseconds": _quantile(latencies, 1.0),
        "problems": len(run.problems),
        "outcomes": [asdict(outcome) for outcome in run.outcomes],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=1) + "\n")
    print({key: value for key, value in summary.items() if key not in ("outcomes", "failures")})


def _tally(words: Iterator[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0


def wait_answers(callers: Callers, version: VersionRef, count: int) -> None:
    """Until clients have got that many answers of a version."""
    wait_for(
        lambda: callers.answers_of(version.number).count >= count,
        PATIENCE,
        what=f"{count} answers of version {version.number}",
    )
