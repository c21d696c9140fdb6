"""What every benchmark tells: progress and a table for people, build/bench/<name>.json for machines, its page."""

import json
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

_ROOT = Path(__file__).resolve().parents[1]
FOLDER = _ROOT / "build" / "bench"
PAGE = _ROOT / "docs" / "benchmarks.md"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `goal` is a comparison and a limit such as `>= 150`; empty for a number without one."""

    name: str
    value: float
    unit: str
    goal: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if not self.goal:
            return None
        sign, limit = self.goal.split()
        return _COMPARISONS[sign](self.value, float(limit))


def say(text: str) -> None:
    """Progress, on stderr: the table is the only output."""
    print(text, file=sys.stderr, flush=True)


def write_report(name: str, figures: Sequence[Figure]) -> Path:
    """Print the table and write the file; returns its path."""
    table = Table(title=name, title_justify="left")
    for column in ("what", "value", "unit", "goal", "met"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for figure in figures:
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, figure.goal, met)
    Console(width=None if Console().is_terminal else 110).print(table)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    plain = [asdict(figure) | {"goal": figure.goal or None, "met": figure.met} for figure in figures]
    path.write_text(json.dumps(plain, indent=2) + "\n")
    return path


def write_section(name: str, text: str) -> None:
    """Write the part of docs/benchmarks.md that belongs to `make bench-<name>`; ValueError when it has none."""
    begin, end = f"<!-- {name}: begin (written by make bench-{name}) -->", f"<!-- {name}: end -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
