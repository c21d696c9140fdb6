"""How far a run is, for the operator to scrape from /metrics while it lasts."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Gauge, start_http_server

logger = logging.getLogger(__name__)

STAGES = ("Reading", "Validating", "Searching", "Fitting", "Evaluating", "Exporting", "Writing", "Done")
"""In order. Most of the time goes to the search, which is given most of the ratio."""
_START = {"Reading": 0.0, "Validating": 0.04, "Searching": 0.06, "Fitting": 0.8, "Exporting": 0.88}
_START |= {"Evaluating": 0.92, "Writing": 0.97, "Done": 1.0}


@dataclass(slots=True)
class Progress:
    """Gauges of one run. Methods are safe to call from several threads."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _ratio: Gauge = field(init=False)
    _done: Gauge = field(init=False)
    _total: Gauge = field(init=False)
    _rows: Gauge = field(init=False)
    _stage: Gauge = field(init=False)

    def __post_init__(self) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"modelloop_training_{name}", text, labels, registry=self.registry)

        self._ratio = gauge("progress_ratio", "Share of the run that is done, 0 to 1")
        self._done = gauge("fits_done", "Fits of the search that are done")
        self._total = gauge("fits_total", "Fits of the search: candidates times folds")
        self._rows = gauge("rows", "Rows by use", ("use",))
        self._stage = gauge("stage_info", "1 for the present stage", ("stage",))
        for stage in STAGES:
            self._stage.labels(stage).set(0)

    def enter(self, stage: str) -> None:
        """The run is in `stage`, one of STAGES, now."""
        for other in STAGES:
            self._stage.labels(other).set(float(other == stage))
        self._ratio.set(_START[stage])
        logger.info("stage", extra={"stage": stage})

    def count_rows(self, use: str, rows: int) -> None:
        """`use` is source, feedback, train or test."""
        self._rows.labels(use).set(rows)

    def expect_fits(self, total: int) -> None:
        """The search will do `total` fits."""
        self._total.set(total)

    def fit_done(self, done: int, total: int) -> None:
        """The search has done `done` of `total` fits."""
        self._done.set(done)
        span = _START["Fitting"] - _START["Searching"]
        self._ratio.set(_START["Searching"] + span * done / total)


@contextmanager
def served_metrics(progress: Progress, port: int) -> Iterator[int | None]:
    """Answer /metrics from a daemon thread meanwhile; gives the port (0 picks one), None when it is taken.

    A run is worth more than its progress bar, so nothing here ends it.
    """
    try:
        server, thread = start_http_server(port, registry=progress.registry)
    except OSError as exc:
        logger.warning("no /metrics: the port can't be opened", extra={"port": port, "error": exc.strerror})
        yield None
        return
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
