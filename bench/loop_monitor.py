"""A ModelMonitor in simulated time: the monitor's core looks at windows, the operator's decision follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.loop_streams import SOURCE, Stream
from bench.loop_training import Answered, Training, Version
from modelkit.contract.codec import to_plain
from modelkit.contract.config import FeedbackConfig, StoreConfig, VersionRef
from modelkit.contract.monitoring import DriftConfig, MonitorConfig, QualityConfig
from modelkit.contract.result import TimelinePoint, WindowResult
from modelkit.monitor.counts import count_rows
from modelkit.monitor.encoding import encode_answers
from modelkit.monitor.history import merge_entries
from modelkit.monitor.labels import select_labelled
from modelkit.monitor.timeline import build_point
from modelkit.monitor.window import Gathered, examine_window
from modelloop.api.monitor import ModelMonitorSpec, ModelMonitorStatus
from modelloop.decide.monitor import decide_monitor
from modelloop.decide.retrain import ObservedModel, ObservedMonitor
from modelloop.desired.monitor import HISTORY_LIMIT

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LENGTH = timedelta(hours=1)
"""Of a window, in simulated time."""


def time_of(window: int) -> datetime:
    """When a window begins."""
    return BEGIN + window * LENGTH


@dataclass
class Course:
    """What came of a stream under one policy."""

    accuracy: list[float] = field(default_factory=list)
    """Of the version that served, per window: first asked, then learned from."""
    retrains: list[int] = field(default_factory=list)
    """The windows after which a run was asked for."""
    approved: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Over all windows."""
        return float(np.mean(self.accuracy))


class Monitor:
    """One ModelMonitor and its status."""

    def __init__(self, spec: ModelMonitorSpec) -> None:
        self._spec = spec
        self.status = ModelMonitorStatus(observed_generation=1)
        self._points: list[TimelinePoint] = []

    def look(
        self,
        version: Version,
        since: int,
        window: int,
        rows: NDArray[Any],
        labels: NDArray[Any],
        predictions: NDArray[Any],
        probabilities: NDArray[Any],
    ) -> WindowResult:
        """The pod's work on a window: counts, checks, its entry in the status."""
        config = self._configure(version, since)
        features = pa.table({f"x{index}": rows[:, index] for index in range(rows.shape[1])})
        meta = pa.table(
            {
                "prediction": pa.array(predictions),
                "probabilities": pa.array(list(probabilities), pa.list_(pa.float64())),
                "redacted": pa.nulls(len(rows), pa.list_(pa.string())),
                "label": pa.array(labels),
            }
        )
        reference = version.reference
        encoded = {name: encode_answers(reference, meta[name]) for name in ("prediction", "label")}
        labelled = select_labelled(reference, pa.table({**encoded, "probabilities": meta["probabilities"]}))
        gathered = Gathered(count_rows(reference, features, meta), labelled)
        bounds = (time_of(window), time_of(window + 1))
        examination = examine_window(config, reference, gathered, bounds, past=self._points)
        found = examination.result
        self._points = [*self._points, build_point(examination)][-config.timeline_limit :]
        plain = self.status.model_dump(mode="json", by_alias=True)
        plain["windows"] = merge_entries(plain["windows"], to_plain(found), config.history_limit, bounds[1])
        self.status = ModelMonitorStatus.model_validate(plain)
        return found

    def _configure(self, version: Version, since: int) -> MonitorConfig:
        return MonitorConfig(
            namespace="bench",
            name="loop",
            deployment="loop",
            version=VersionRef(number=version.number, path=f"{version.number}", digest=version.digest),
            version_since=time_of(since),
            store=StoreConfig(uri="file:///nowhere"),
            window_seconds=LENGTH.total_seconds(),
            min_rows=self._spec.min_rows,
            history_limit=HISTORY_LIMIT,
            drift=DriftConfig(**self._spec.drift.model_dump()),
            quality=QualityConfig(**self._spec.quality.model_dump()),
        )

    def decide(self, version: Version, window: int) -> FeedbackConfig | None:
        """The operator's decision after a window; what it asks for is handled at once."""
        last = self.status.retrain
        model = ObservedModel(
            deployment="loop",
            training="loop",
            digest=version.digest,
            champion_digest=version.digest,
            handled_id=last.id if last is not None else "",
        )
        observed = ObservedMonitor(name="loop", generation=1, spec=self._spec, status=self.status, model=model)
        self.status = decide_monitor(observed, time_of(window + 1)).status
        request = self.status.retrain
        if request is None or (last is not None and request.id == last.id):
            return None
        return FeedbackConfig(deployment="loop", since=request.since, until=request.until, policy=request.policy)


def run_loop(stream: Stream, training: Training, spec: ModelMonitorSpec) -> Course:
    """The loop: what the monitor's core finds and the operator decides."""
    size, course, monitor = stream.plan.window, Course(), Monitor(spec)
    version, _ = training.run(None, slice(0), None)
    answered = Answered(np.zeros_like(stream.labels), np.zeros_like(stream.labels))
    since = SOURCE
    for window in range(SOURCE, stream.windows):
        part = slice(window * size, (window + 1) * size)
        predictions, probabilities = version.answer(stream.rows[part])
        answered.predictions[part], answered.versions[part] = predictions, version.number
        course.accuracy.append(float(np.mean(predictions == stream.labels[part])))
        monitor.look(version, since, window, stream.rows[part], stream.labels[part], predictions, probabilities)
        feedback = monitor.decide(version, window)
        if feedback is None:
            continue
        course.retrains.append(window)
        course.reasons.append(monitor.status.retrain.reason)
        rows = slice(_row(feedback.since, size), _row(feedback.until, size))
        candidate, approved = training.run(feedback, rows, version, answered)
        if approved:
            course.approved.append(window)
            version, since = candidate, window + 1
    return course


def run_every(stream: Stream, training: Training, windows: int) -> Course:
    """A retrain after every window, which learns from the rows of the last so many `windows` and always serves."""
    size, course = stream.plan.window, Course()
    version: Version | None = None
    for window in range(SOURCE, stream.windows):
        rows = slice(max(0, window - windows) * size, window * size)
        version, _ = training.run(_feedback(rows, size), rows, None)
        course.accuracy.append(_accuracy(version, stream, window))
        course.retrains.append(window)
    return course


def run_plan(stream: Stream, training: Training, moments: Mapping[int, int]) -> Course:
    """A retrain after each of the windows that are the keys of `moments`, from the window that is its value on."""
    size, course = stream.plan.window, Course()
    version, _ = training.run(None, slice(0), None)
    for window in range(SOURCE, stream.windows):
        course.accuracy.append(_accuracy(version, stream, window))
        if window in moments:
            rows = slice(moments[window] * size, (window + 1) * size)
            candidate, approved = training.run(_feedback(rows, size), rows, version)
            course.retrains.append(window)
            version = candidate if approved else version
    return course


def _accuracy(version: Version, stream: Stream, window: int) -> float:
    part = slice(window * stream.plan.window, (window + 1) * stream.plan.window)
    return float(np.mean(version.answer(stream.rows[part])[0] == stream.labels[part]))


def _feedback(rows: slice, size: int) -> FeedbackConfig:
    return FeedbackConfig(
        deployment="loop", since=time_of(rows.start // size), until=time_of(rows.stop // size), policy="Window"
    )


def _row(time: datetime, size: int) -> int:
    return round((time - BEGIN) / LENGTH * size)
