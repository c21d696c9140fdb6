"""What a run of ours costs above the bare scikit-learn script on the same data, and how fast a search is.

Real processes on both sides: `python -m modelkit.train` against a script that imports scikit-learn and pandas, reads
the same CSV, and makes the same folds, fit, metric and dump, folds side by side on the same cores and one native thread
each. A Pod's own floor (scheduling, image, start of the container) comes on top and is not of the trainer.
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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, make_regression

from bench.report import Figure, say, write_report, write_section
from modelkit.contract.codec import dumps
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.recipe import ExplainConfig, SearchParameterConfig, TuningConfig, ValidationConfig
from modelkit.train.cores import available_cores, limit_native_threads

ROOT = Path(__file__).resolve().parents[1]
GOAL_SECONDS = 3.0
FOLDS, SEED = 5, 0
CANDIDATES = 200
PHASES = ("imports", "Reading", "Validating", "Searching", "Fitting", "export", "Evaluating", "importance", "intervals")
PHASES += ("learning curve", "explanation", "profile", "card", "skops", "write")


@dataclass(frozen=True)
class Case:
    """One data set and one estimator."""

    name: str
    make: Callable[[], pd.DataFrame]
    estimator: str
    scaled: bool
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """Medians of some runs, in seconds."""

    wall: float
    cpu: float


def cancer() -> pd.DataFrame:
    """569 rows, 30 numbers."""
    return load_breast_cancer(as_frame=True).frame


def regression() -> pd.DataFrame:
    """50,000 rows, 30 numbers."""
    rows, target = make_regression(50_000, 30, n_informative=12, noise=20.0, random_state=SEED)
    return pd.DataFrame(rows, columns=[f"x{index}" for index in range(30)]).assign(target=target)


def mixed() -> pd.DataFrame:
    """20,000 rows, six numbers of which one misses values, four texts."""
    generator = np.random.default_rng(SEED)
    count = 20_000
    frame = pd.DataFrame({f"n{index}": generator.normal(size=count) for index in range(6)})
    for index, size in enumerate((3, 5, 12, 40)):
        frame[f"c{index}"] = generator.choice([f"value {number}" for number in range(size)], count)
    score = frame["n0"] + frame["n1"] * 0.5 + (frame["c0"] == "value 1") + generator.normal(size=count)
    frame.loc[::20, "n3"] = np.nan
    frame["target"] = np.where(score > score.median(), "yes", "no")
    return frame


CASES = (
    Case("breast_cancer 569×30", cancer, "LogisticRegression", True),
    Case("breast_cancer 569×30", cancer, "RandomForestClassifier", False),
    Case("regression 50,000×30", regression, "HistGradientBoostingRegressor", False, {"max_iter": 30}),
    Case("categories 20,000×10", mixed, "LogisticRegression", True),
)


def run_process(command: list[str], environ: dict[str, str]) -> tuple[float, float, str]:
    """Wall seconds, processor seconds and standard output of a process that must succeed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command[:4])} ended with {process.returncode}: {errors.read()[-2000:]!r}")
        out.seek(0)
        return wall, usage.ru_utime + usage.ru_stime, out.read().decode()


def configure(case: Case, source: Path, store: Path) -> TrainerConfig:
    """The run that does what the script does."""
    classes = not case.estimator.endswith("Regressor")
    return TrainerConfig(
        namespace="bench",
        name="training",
        number=1,
        version="1-bench",
        trigger="Created",
        store=StoreConfig(uri=f"file://{store}"),
        data=DataConfig(uri=f"file://{source}", display_uri=source.name, target="target"),
        candidates=(CandidateConfig(estimator=case.estimator, params=case.params),),
        metric="f1_macro" if classes else "rmse",
        folds=FOLDS,
        seed=SEED,
        # As the operator sends them by default.
        validation=ValidationConfig(),
        explain=ExplainConfig(),
    )


def environment(config: TrainerConfig, folder: Path) -> dict[str, str]:
    """Of a trainer's process."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MODELLOOP_CONFIG": dumps(config),
        "MODELLOOP_TERMINATION_LOG": str(folder / "termination.json"),
        "ORT_DISABLE_TELEMETRY": "1",
        "MODELLOOP_FONTS": str(find_fonts(folder)),
    }


def find_fonts(folder: Path) -> Path:
    """matplotlib's list of fonts, which the trainer's image has, too."""
    fonts = folder / "fonts"
    if not fonts.exists():
        environ = {"PATH": os.environ["PATH"], "MPLCONFIGDIR": str(fonts)}
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=environ, check=True)
    return fonts


def run_ours(config: TrainerConfig, folder: Path, module: str = "modelkit.train") -> tuple[float, float, str]:
    """One run on an empty store."""
    with tempfile.TemporaryDirectory(dir=folder) as store:
        config = replace(config, store=StoreConfig(uri=f"file://{store}"))
        environ = environment(config, folder) | {"MODELLOOP_BENCH_STARTED": str(time.time())}
        return run_process([sys.executable, "-m", module], environ)


def run_script(case: Case, source: Path, folder: Path) -> tuple[float, float, str]:
    """The same by hand."""
    settings = {
        "path": str(source),
        "estimator": case.estimator,
        "params": case.params,
        "scaled": case.scaled,
        "folds": FOLDS,
        "seed": SEED,
        "cores": available_cores(),
        "output": str(folder),
    }
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    limit_native_threads(environ)  # or folds side by side would fight for the cores, and the run look fast
    return run_process([sys.executable, "bench/training_script.py", json.dumps(settings)], environ)


def measure_case(case: Case, folder: Path, repeats: int) -> tuple[Cost, Cost, dict[str, float]]:
    """The script's cost, the run's, and the run's phases; script and run take turns."""
    source = folder / "rows.csv"
    case.make().to_csv(source, index=False)
    config = configure(case, source, folder)
    theirs, ours, phases = [], [], []
    for _ in range(repeats):
        theirs.append(run_script(case, source, folder))
        ours.append(run_ours(config, folder))
        phases.append(json.loads(run_ours(config, folder, "bench.training_probe")[2].splitlines()[-1]))
    _compare(json.loads(theirs[0][2])["test"], json.loads((folder / "termination.json").read_text()), case)
    median = {name: statistics.median(found.get(name, 0.0) for found in phases) for name in PHASES}
    return _cost(theirs), _cost(ours), median


def _cost(runs: list[tuple[float, float, str]]) -> Cost:
    return Cost(statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs))


def _compare(script: float, result: dict[str, Any], case: Case) -> None:
    """A faster run that does something else would be no comparison."""
    ours = result["metrics"]["f1_macro" if "f1_macro" in result["metrics"] else "rmse"]
    if abs(ours - script) > 1e-6 * max(1.0, abs(script)):
        raise RuntimeError(f"{case.name} {case.estimator}: the script's metric is {script}, the run's {ours}")


def measure_search(folder: Path, workers: int) -> float:
    """Wall seconds of a search over 200 candidates, in one pod or with `workers` beside it, that share this machine."""
    source = folder / "rows.csv"
    cancer().to_csv(source, index=False)
    case = Case("search", cancer, "RandomForestClassifier", False)
    search = (
        SearchParameterConfig(name="n_estimators", type="Int", minimum=5, maximum=20),
        SearchParameterConfig(name="max_depth", type="Int", minimum=2, maximum=12),
    )
    config = replace(
        configure(case, source, folder),
        candidates=(CandidateConfig(estimator=case.estimator, search=search),),
        tuning=TuningConfig(method="Random", trials=CANDIDATES, parallelism=max(workers, 1)),
    )
    with tempfile.TemporaryDirectory(dir=folder) as store:
        config = replace(config, store=StoreConfig(uri=f"file://{store}"))
        environ = environment(config, folder) | ({"MODELLOOP_POD_IP": "127.0.0.1"} if workers else {})
        command = [sys.executable, "-m", "modelkit.train.worker"]
        helpers = [
            subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(workers)
        ]
        try:
            wall = run_process([sys.executable, "-m", "modelkit.train"], environ)[0]
            for helper in helpers:
                helper.wait(60)
        finally:
            for helper in helpers:
                helper.kill()
                helper.wait()
    return wall


def describe_machine() -> str:
    """What the numbers were measured on."""
    import sklearn

    return (
        f"{available_cores()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"scikit-learn {sklearn.__version__}, {time.strftime('%B %Y')}"
    )


def build_page(
    machine: str, repeats: int, rows: list[tuple[Case, Cost, Cost, dict[str, float]]], searches: dict[int, float]
) -> str:
    """The section of docs/benchmarks.md."""
    lines = [
        f"Seconds, medians of {repeats} run{'s' if repeats > 1 else ''} each; {machine}.",
        "",
        "| data, estimator | script | run | above it | processor time: script | run |",
        "|---|---|---|---|---|---|",
    ]
    for case, theirs, ours, _ in rows:
        above = ours.wall - theirs.wall
        verdict = "" if above < GOAL_SECONDS else ", **missed**"
        lines.append(
            f"| {case.name}, {case.estimator} | {theirs.wall:.2f} | {ours.wall:.2f} | {above:.2f}{verdict} | "
            f"{theirs.cpu:.2f} | {ours.cpu:.2f} |"
        )
    lines += ["", "Where a run's time goes, measured in a process of its own:", ""]
    lines += ["| phase | " + " | ".join(f"{case.name}, {case.estimator}" for case, *_ in rows) + " |"]
    lines += ["|---" * (len(rows) + 1) + "|"]
    for phase in PHASES:
        lines.append(f"| {phase.lower()} | " + " | ".join(f"{found[phase]:.2f}" for *_, found in rows) + " |")
    if searches:
        lines += ["", f"A search over {CANDIDATES} parameter sets of a forest, five folds each, on breast_cancer:", ""]
        for workers, wall in searches.items():
            place = f"{workers} worker processes that share the same cores" if workers else "one process"
            lines.append(f"- {place}: {wall:.1f} s")
    return "\n".join(lines)


def main() -> int:
    """Measure, print, and write what was asked for; 1 when the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--no-search", action="store_true", help="leave the searches out")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    machine, rows, searches = describe_machine(), [], {}
    with tempfile.TemporaryDirectory(prefix="bench-training-") as name:
        folder = Path(name)
        for case in CASES:
            say(f"{case.name}, {case.estimator}")
            rows.append((case, *measure_case(case, folder, options.repeats)))
        for workers in () if options.no_search else (0, 2):
            say(f"search, {workers} workers")
            searches[workers] = measure_search(folder, workers)
    figures = []
    for case, theirs, ours, phases in rows:
        label = f"{case.name}, {case.estimator}"
        figures.append(Figure(f"{label}: script", theirs.wall, "s"))
        figures.append(Figure(f"{label}: run above it", ours.wall - theirs.wall, "s", f"<= {GOAL_SECONDS}"))
        figures += [Figure(f"{label}: {phase}", phases[phase], "s") for phase in PHASES]
    figures += [Figure(f"search of {CANDIDATES}, {workers} workers", wall, "s") for workers, wall in searches.items()]
    say(machine)
    write_report("training", figures)
    if options.write:
        write_section("training", build_page(machine, options.repeats, rows, searches))
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
