"""Pairs what both versions said to a request. On the event loop."""

from collections.abc import Sequence

from modelkit.contract.route import INCOMPARABLE
from modelkit.serve.feedback import Label
from modelkit.serve.rollout.labels import Memory
from modelkit.serve.rollout.measurement import Measurement
from modelkit.serve.rollout.metrics import RouteMetrics
from modelkit.serve.rollout.predictions import MAX_BYTES, Watch, parse_predictions

COMPARED, FAILED, SKIPPED = "Compared", "Failed", "Skipped"
JOINED = "Joined"


class Comparison:
    """The comparison between this version and one other."""

    def __init__(self, metrics: RouteMetrics) -> None:
        self.memory = Memory()
        self._metrics = metrics

    def is_comparable(self, watch: Watch) -> bool:
        """Can the predictions be told? If not, the request counts as skipped."""
        if watch.seen is not None and 2 * len(watch.seen.values) <= MAX_BYTES:
            return True
        self.skip()
        return False

    def add(self, measurement: Measurement, watch: Watch, predictions: bytes | None) -> None:
        """Both answered: this version as `watch` saw, the other with that header."""
        own = watch.seen
        if own is None or predictions is None:
            # Too many rows to tell of.
            self.skip()
            return
        try:
            other = parse_predictions(predictions, len(own.values))
            measurement.pairs.add(own, other)
        except ValueError:
            self.fail(measurement, INCOMPARABLE)
            return
        self._metrics.count_copy(COMPARED)
        self.memory.add(watch.id, own.values, other.values)

    def fail(self, measurement: Measurement, kind: str) -> None:
        """The other version failed at what this one answered."""
        measurement.pairs.fail(kind)
        self._metrics.count_copy(FAILED)

    def skip(self) -> None:
        """There is nothing to compare."""
        self._metrics.count_copy(SKIPPED)

    def join(self, measurement: Measurement, labels: Sequence[Label]) -> list[Label]:
        """Count the labels of compared rows; those of requests that this pod doesn't know."""
        joined, unknown = self.memory.join(labels, measurement.labels)
        self._metrics.count_labels(JOINED, joined)
        return unknown
