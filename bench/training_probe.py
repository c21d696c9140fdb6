"""A trainer process that tells on stdout, as its last line, how long each part of its run took.

Apart from the plain process, because looking costs time. `python -m bench.training_probe`, with the environment of a
trainer and MODELLOOP_BENCH_STARTED, the clock when it was started.
"""

import functools
import importlib
import itertools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

PARTS = {
    # Where a name is looked up, by what the table calls it.
    "export": [("modelkit.train.run", "export_onnx")],
    "profile": [("modelkit.train.files", "describe_rows")],
    "importance": [("modelkit.train.files", "measure_importance")],
    "intervals": [("modelkit.train.files", "metric_intervals"), ("modelkit.train.files", "describe_classes")],
    "learning curve": [("modelkit.train.files", "describe_learning")],
    "explanation": [("modelkit.train.files", "build_explanation")],
    "card": [("modelkit.train.files", name) for name in ("build_card", "build_page", "draw_pictures")],
    "skops": [("modelkit.train.files", "dump_native")],
    "write": [("modelkit.train.run", "write_version")],
}


def main() -> int:
    """Train as the environment says; returns the exit code."""
    started = float(os.environ["MODELLOOP_BENCH_STARTED"])
    seconds: dict[str, float] = defaultdict(float)
    from modelkit.train.__main__ import main as train

    importlib.import_module("modelkit.train.run")
    seconds["imports"] = time.time() - started
    for part, places in PARTS.items():
        for module, name in places:
            _wrap(importlib.import_module(module), name, part, seconds)
    stages = _follow_stages()
    code = int(train(os.environ))
    stages.append(("end", time.perf_counter()))
    for (stage, begun), (_, ended) in itertools.pairwise(stages):
        seconds[stage] += ended - begun
    print(json.dumps(seconds))
    return code


def _wrap(module: Any, name: str, part: str, seconds: dict[str, float]) -> None:
    function: Callable[..., Any] = getattr(module, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.perf_counter() - begun

    setattr(module, name, timed)


def _follow_stages() -> list[tuple[str, float]]:
    from modelkit.train.progress import Progress

    stages: list[tuple[str, float]] = []
    enter = Progress.enter

    def followed(self: Progress, stage: str) -> None:
        stages.append((stage, time.perf_counter()))
        enter(self, stage)

    Progress.enter = followed  # type: ignore[method-assign]
    return stages


if __name__ == "__main__":
    sys.exit(main())
