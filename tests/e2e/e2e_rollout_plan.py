"""Which versions are rolled out in which order, and how each of their rollouts must end."""

import itertools
import random
from dataclasses import dataclass
from typing import Any

from tests.e2e.e2e_versions import Kind

Object = dict[str, Any]

_ENDS_BADLY = ("Failed", "RolledBack")
"""Before it got traffic, and after."""


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
    Scenario("slow", (Kind.SLOW,), frozenset({"Latency", "LatencyRatio"})),
    Scenario(
        "crash at start",
        (Kind.DIES_AT_START, Kind.UNLOADABLE, Kind.SAMPLES_DIFFER),
        frozenset({"CrashLoop", "Exited", "ModelNotLoadable", "SamplesDiffer"}),
    ),
    Scenario("crash under load", (Kind.DIES,), frozenset({"CrashLoop", "Exited"})),
    Scenario("out of memory", (Kind.TAKES_MEMORY,), frozenset({"OutOfMemory"})),
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


def judge_record(scenario: Scenario, record: Object) -> str:
    """What is wrong with how a rollout ended; empty: nothing."""
    result, reason = record["result"], record["reason"]
    if result not in (_ENDS_BADLY if scenario.reasons else ("Promoted",)):
        return f"a version that is {scenario.name!r} ended {result}"
    if scenario.reasons and reason not in scenario.reasons:
        return f"the reason {reason} is none of {', '.join(sorted(scenario.reasons))}"
    return ""
