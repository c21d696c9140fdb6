"""What came of rollouts: a table for people, a file for machines."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.e2e_rollout_plan import BAD, GOOD

UNFINISHED = "Unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one rollout ended."""

    scenario: str
    kind: str
    lane: str
    number: int = 0
    """Of the version, as its answers name it."""
    result: str = UNFINISHED
    """As in the history of the ModelDeployment."""
    reason: str = ""
    message: str = ""
    position: str = ""
    """Step and number of steps."""
    seconds: float = 0.0
    """From the change of the spec to the end in the history."""
    answered: int = 0
    """Requests of clients that the version answered before the end."""
    problem: str = ""
    """What is wrong with this outcome; empty: nothing."""


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


def _tally(words: Iterable[str]) -> str:
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else 0.0
