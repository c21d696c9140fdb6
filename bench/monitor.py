"""How fast drift is found in Parquet files, and in how much memory: ours, bare numpy and Evidently on the same rows.

Every side is a process of its own, measured from its start to its end, when its JSON is there; they take turns, and
medians count. Memory is the kernel's own record of the process's highest resident size, with all of its threads.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import FOLDER, Figure, say, write_report, write_section
from devcluster.environments import locked_python

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "bench" / "peers"
OURS, BARE, EVIDENTLY = "modelloop", "bare pyarrow + numpy", "Evidently"
SHIFTED = ["c2", "n03", "n11"]
"""What `bench.monitor_data` shifts. Not imported, with all of numpy: a child is charged with its parent's memory."""
FIRST, AGAIN = "captured, first look", "captured, second look"
REFERENCE_ROWS, CURRENT_ROWS, MANY_ROWS = 100_000, 1_000_000, 10_000_000


@dataclass(frozen=True)
class Run:
    """What one process took, and what it found."""

    seconds: float
    memory: float
    """MiB, at its highest."""
    rows: int
    drifted: list[str]


@dataclass(frozen=True)
class Files:
    """The rows of one comparison."""

    reference: Path
    profile: Path
    current: Path


def command(side: str, files: Files) -> list[str]:
    """How a side is asked about the same rows."""
    both = [str(files.reference), str(files.current)]
    if side == OURS:
        return [sys.executable, "-m", "modelkit.monitor.shards", "--profile", str(files.profile), str(files.current)]
    if side == BARE:
        return [sys.executable, str(PEERS / "bare_drift.py"), *both]
    python = locked_python(ROOT / "requirements" / "others" / "evidently.lock", FOLDER / "peers" / "evidently")
    return [str(python), str(PEERS / "evidently_drift.py"), *both]


def run(arguments: Sequence[str]) -> Run:
    """One process; RuntimeError unless it succeeds."""
    environ = os.environ | {"DO_NOT_TRACK": "1"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=ROOT, env=environ, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{arguments[:4]} ended with {process.returncode}: {errors.read()[-2000:]!r}")
        out.seek(0)
        answer = json.loads(out.read().splitlines()[-1])
    return Run(seconds, usage.ru_maxrss / 1024, answer["rows"], answer["drifted"])


def make_files(folder: Path) -> tuple[Files, Files, float]:
    """The comparisons with a million and with ten million rows, and the seconds that the profile took."""

    def write(name: str, *options: str) -> Path:
        path = folder / name
        subprocess.run([sys.executable, "-m", "bench.monitor_data", str(path), *options], cwd=ROOT, check=True)
        return path

    reference = write("reference.parquet", "--rows", str(REFERENCE_ROWS))
    began = time.perf_counter()
    profile = write("profile.json", "--reference", str(reference))
    seconds = time.perf_counter() - began
    current = write("current.parquet", "--rows", str(CURRENT_ROWS), "--seed", "1", "--shifted")
    many = write("many.parquet", "--rows", str(MANY_ROWS), "--seed", "2", "--shifted")
    return Files(reference, profile, current), Files(reference, profile, many), seconds


def measure(sides: Sequence[str], files: Files, repeats: int) -> dict[str, list[Run]]:
    """All sides in turn, so often."""
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for turn in range(repeats):
        for side in sides:
            say(f"{files.current.stem}, round {turn + 1}: {side}")
            runs[side].append(run(command(side, files)))
    return runs


def measure_captures(folder: Path, files: Files) -> dict[str, list[Run]]:
    """The same rows as a server captures them: the first look at a day, and the second, when its hours are over."""
    store = folder / "store"
    store.mkdir()
    module = [sys.executable, "-m", "bench.monitor_captures"]
    say("captures")
    subprocess.run([*module, "write", str(store), str(files.current)], cwd=ROOT, check=True)
    ask = [*module, "look", str(store), str(files.profile)]
    return {title: [run(ask)] for title in (FIRST, AGAIN)}


def seconds(runs: Sequence[Run]) -> float:
    """The median."""
    return statistics.median(found.seconds for found in runs)


def memory(runs: Sequence[Run]) -> float:
    """The highest."""
    return max(found.memory for found in runs)


def judge(few: dict[str, list[Run]], many: dict[str, list[Run]], profile_seconds: float) -> list[Figure]:
    """The goals, and what was measured beside them."""
    figures = []
    for label, runs in (("1 M rows", few), ("10 M rows", many)):
        for side, found in runs.items():
            is_goal = runs is many and side == OURS
            figures.append(Figure(f"{label}: {side}", seconds(found), "s", "<= 6" if is_goal else ""))
            figures.append(Figure(f"{label}: {side}", memory(found), "MiB", "<= 512" if is_goal else ""))
    if EVIDENTLY in few:
        others = few[EVIDENTLY]
        figures += [
            Figure("1 M rows: times as fast as Evidently", seconds(others) / seconds(few[OURS]), "×", ">= 40"),
            Figure("1 M rows: share of Evidently's memory", memory(few[OURS]) / memory(others), "", "<= 0.25"),
        ]
    ours = (*few[OURS], *many[OURS], *few[FIRST], *few[AGAIN])
    exact = all(sorted(found.drifted) == SHIFTED for found in ours)
    figures.append(Figure("exactly the three shifted columns found", float(exact), "", "= 1"))
    return [*figures, Figure("profile of the reference, made once at training", profile_seconds, "s")]


def describe(few: dict[str, list[Run]], many: dict[str, list[Run]], profile_seconds: float) -> str:
    """The table in Markdown."""
    repeats = len(few[OURS])
    lines = [
        f"Medians of {repeats} run{'s' if repeats > 1 else ''}, the sides taking turns; {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {time.strftime('%B %Y')}. Shifted: "
        f"{', '.join(SHIFTED)}.",
        "",
        "| side | rows | seconds | MiB at most | columns found |",
        "|---|---|---|---|---|",
    ]
    for runs in (few, many):
        for side, found in runs.items():
            names = ", ".join(sorted(found[0].drifted))
            lines.append(f"| {side} | {found[0].rows:,} | {seconds(found):.2f} | {memory(found):.0f} | {names} |")
    lines += ["", f"The profile, which training makes once, took {profile_seconds:.2f} s for the reference's rows."]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Measure, print, and with --write change the page; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench-monitor")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="leave Evidently out; its goals need it")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-monitor-") as name:
        say("data")
        few_files, many_files, profile_seconds = make_files(Path(name))
        sides = (OURS, BARE) if options.no_peers else (OURS, BARE, EVIDENTLY)
        few = measure(sides, few_files, options.repeats)
        many = measure((OURS, BARE), many_files, options.repeats)
        few |= measure_captures(Path(name), few_files)
    text = describe(few, many, profile_seconds)
    print(text)
    if options.write:
        write_section("monitor", text)
    figures = judge(few, many, profile_seconds)
    write_report("monitor", figures)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
