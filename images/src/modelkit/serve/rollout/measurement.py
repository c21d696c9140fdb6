"""The counts of one measurement, and the report made of them. On the event loop."""

from collections import Counter
from collections.abc import Mapping

from modelkit.contract.route import TIMEOUT, LatencyReport, SideReport
from modelkit.serve.instruments import Buckets
from modelkit.serve.metrics import LATENCY, Answers
from modelkit.serve.rollout.labels import LabelTally
from modelkit.serve.rollout.metrics import RouteMetrics
from modelkit.serve.rollout.pairs import Pairs, Scale
from modelkit.serve.rollout.verdict import ANSWERED, judge_counted

OWN, OTHER = "own", "other"
SKIPPED = "Skipped"


class Side:
    """One version's part."""

    def __init__(self, name: str, metrics: RouteMetrics) -> None:
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self.skipped = 0
        self.latency = Buckets(LATENCY)
        self._name = name
        self._metrics = metrics

    def answer(self, seconds: float) -> None:
        """It was the first to be asked, and answered."""
        self.answered += 1
        self._metrics.count_request(self._name, ANSWERED)
        self.time(seconds)

    def time(self, seconds: float) -> None:
        """How long an answer took; also of one that nobody was given."""
        self.latency.observe(seconds)
        self._metrics.observe(self._name, seconds)

    def fail(self, kind: str) -> None:
        """It was the first to be asked, and failed."""
        self.failures[kind] += 1
        self._metrics.count_request(self._name, kind)
        if kind == TIMEOUT:
            self.time_out()

    def time_out(self) -> None:
        """An answer didn't come in time: it takes longer than any."""
        self.latency.counts[-1] += 1

    def skip(self, *, is_copy: bool = False) -> None:
        """It wasn't asked, though it was its turn to answer, or to be compared."""
        self.skipped += 1
        if not is_copy:
            self._metrics.count_request(self._name, SKIPPED)

    def add(self, answers: Answers) -> None:
        """Add what /metrics has counted meanwhile."""
        for code, count in answers.codes.items():
            kind = judge_counted(code)
            if kind == ANSWERED:
                self.answered += count
            elif kind is not None:
                self.failures[kind] += count
        self.latency.counts = [one + more for one, more in zip(self.latency.counts, answers.latency, strict=True)]

    def report(self) -> SideReport:
        """The counts so far."""
        failures: Mapping[str, int] = {kind: count for kind, count in sorted(self.failures.items()) if count}
        return SideReport(
            asked=self.answered + sum(failures.values()),
            answered=self.answered,
            failures=failures,
            skipped=self.skipped,
            latency=LatencyReport(bounds=self.latency.bounds, counts=tuple(self.latency.counts)),
        )


class Measurement:
    """Everything that is counted from one change of RouteConfig.measurement to the next."""

    def __init__(self, name: str, since: float, scale: Scale, metrics: RouteMetrics) -> None:
        """`since` on time.monotonic's clock."""
        self.name = name
        self.since = since
        self.own = Side(OWN, metrics)
        self.other = Side(OTHER, metrics)
        self.pairs = Pairs(scale)
        self.labels = LabelTally(is_classification=scale.classes is not None)
