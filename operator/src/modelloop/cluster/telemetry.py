"""The operator's Prometheus metrics, in one place."""

from prometheus_client import Counter, Gauge, Histogram

from modelloop.api.deployment import ModelDeploymentStatus

RECONCILES = Counter("modelloop_reconciles_total", "Reconcile passes.", ["kind", "outcome"])
RECONCILE_SECONDS = Histogram(
    "modelloop_reconcile_seconds",
    "Duration of a reconcile pass.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)
WRITES = Counter("modelloop_writes_total", "Writes to the API server.", ["kind", "verb"])
QUEUE_DEPTH = Gauge("modelloop_queue_depth", "Keys that wait for a worker.")
QUEUE_RUNNING = Gauge("modelloop_queue_running", "Keys that are worked on.")
CACHE_OBJECTS = Gauge("modelloop_cache_objects", "Objects held in the cache.", ["kind"])
WATCH_EVENTS = Counter("modelloop_watch_events_total", "Events that watches delivered.", ["kind"])
CACHE_REPAIRS = Counter(
    "modelloop_cache_repairs_total", "Objects that an audit found changed and no watch had told of.", ["kind"]
)
EVENTS_DROPPED = Gauge("modelloop_events_dropped", "Kubernetes Events that found the queue full.")
LEASE_HELD = Gauge("modelloop_lease_held", "1 while this process is the active operator.")
RUNS = Counter("modelloop_training_runs_total", "Training runs that ended.", ["verdict"])
ROLLOUTS = Counter("modelloop_rollouts_total", "Rollouts that ended, by how.", ["outcome"])
ROLLBACKS = Counter("modelloop_rollbacks_total", "Rollouts that were taken back or given up, by why.", ["reason"])
ROLLOUTS_RUNNING = Gauge("modelloop_rollouts_running", "Rollouts whose versions are measured.")
REPORT_SCRAPES = Counter(
    "modelloop_rollout_report_scrapes_total", "Questions to pods for what they report of a rollout.", ["outcome"]
)
PROMETHEUS_QUERIES = Counter(
    "modelloop_prometheus_queries_total", "Queries of rollouts' analysis to a Prometheus.", ["outcome"]
)
SCRAPES = Counter("modelloop_progress_scrapes_total", "Questions to the pods of runs under way.", ["outcome"])
RETRAIN_REQUESTS = Counter("modelloop_retrain_requests_total", "Retrains that monitors asked for.")

_OUTCOMES = {
    "Promoted": "promoted",
    "RolledBack": "rolled_back",
    "Failed": "failed",
    "Aborted": "aborted",
    "Superseded": "superseded",
}
_MAX_REASONS = 200
_reasons: set[str] = set()


def count_rollouts(old: ModelDeploymentStatus, new: ModelDeploymentStatus) -> None:
    """Count the rollouts that have ended between two statuses."""
    for record in new.history:
        if record in old.history:
            continue
        ROLLOUTS.labels(_OUTCOMES[record.result]).inc()
        if record.result in ("RolledBack", "Failed", "Aborted"):
            # Users name their own checks, and images their own reasons: a process must not keep them without end.
            if len(_reasons) < _MAX_REASONS:
                _reasons.add(record.reason)
            ROLLBACKS.labels(record.reason if record.reason in _reasons else "Other").inc()
