"""How far a run is, for the operator to scrape from /metrics while it lasts."""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 0.02
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
    _trials_done: Gauge = field(init=False)
    _trials_total: Gauge = field(init=False)
    _best: Gauge = field(init=False)
    _eta: Gauge = field(init=False)

    def __post_init__(self) -> None:
        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"modelloop_training_{name}", text, labels, registry=self.registry)

        self._ratio = gauge("progress_ratio", "Share of the run that is done, 0 to 1")
        self._done = gauge("fits_done", "Fits of the search that are done")
        self._total = gauge("fits_total", "Fits of the search: trials times folds")
        self._trials_done = gauge("trials_done", "Parameter sets of the search that are scored")
        self._trials_total = gauge("trials_total", "Parameter sets that the search will score at most")
        self._best = gauge("best_score", "The primary metric of the best trial so far; NaN before there is one")
        self._eta = gauge("eta_seconds", "Seconds until the final fit should be done; NaN while that isn't known")
        self._best.set(math.nan)
        self._eta.set(math.nan)
        self._rows = gauge("rows", "Rows by use", ("use",))
        self._stage = gauge("stage_info", "1 for the present stage", ("stage",))
        for stage in STAGES:
            self._stage.labels(stage).set(0)

    def enter(self, stage: str) -> None:
        """The run is in `stage`, one of STAGES, now."""
        for other in STAGES:
            self._stage.labels(other).set(float(other == stage))
        self._ratio.set(_START[stage])
        if stage not in ("Searching", "Fitting"):
            self._eta.set(0.0 if stage == "Done" else math.nan)
        logger.info("stage", extra={"stage": stage})

    def count_rows(self, use: str, rows: int) -> None:
        """`use` is source, feedback, train or test."""
        self._rows.labels(use).set(rows)

    def trials_done(self, done: int, total: int, best: float) -> None:
        """The search has scored `done` of at most `total` parameter sets; `best` is NaN without a score."""
        self._trials_done.set(done)
        self._trials_total.set(total)
        self._best.set(best)

    def expect_end(self, seconds: float) -> None:
        """The final fit should be done in so many seconds."""
        self._eta.set(max(0.0, seconds))

    def fit_done(self, done: float, total: float) -> None:
        """The search has done `done` of `total` fits; a fit on a share of the rows counts as that share."""
        self._done.set(done)
        self._total.set(total)
        span = _START["Fitting"] - _START["Searching"]
        self._ratio.set(_START["Searching"] + span * done / total)


@contextmanager
def served_metrics(progress: Progress, port: int) -> Iterator[int | None]:
    """Answer /metrics from a daemon thread meanwhile; gives the port (0 picks one), None when it is taken.

    A run is worth more than its progress bar, so nothing here ends it.
    """
    try:
        server = make_server("", port, make_wsgi_app(progress.registry), ThreadingWSGIServer, _Silent)
    except OSError as exc:
        logger.warning("no /metrics: the port can't be opened", extra={"port": port, "error": exc.strerror})
        yield None
        return
    # prometheus_client's own server looks only every half second whether it should end, and the pod would wait for it.
    thread = threading.Thread(target=server.serve_forever, args=(_SECONDS_BETWEEN_LOOKS,), name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """A scrape is no news."""
