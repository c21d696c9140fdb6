"""Names of every object that the operator makes. Deterministic, so that a repeated pass finds what is there."""

from modelkit.contract.files import run_id, version_name

__all__ = [
    "cron_job_name", "digest_label", "job_name", "monitor_account_name", "removal_name", "route_name", "run_id",
    "server_name",
    "store_claim", "version_name", "worker_job_name",
]  # fmt: skip

STORE_CLAIM_PREFIX = "pvc://"


def job_name(training: str, uid: str, number: int) -> str:
    """Name of a run's Job."""
    return f"{training}-{run_id(uid, number)}"


def worker_job_name(job: str) -> str:
    """Name of the Job of a run's worker pods: 63 characters at most, as a run's Job has at most 61."""
    return f"{job}-w"


def digest_label(digest: str) -> str:
    """The first 16 hex digits of a digest: fits a label and tells versions apart."""
    return digest.removeprefix("sha256:")[:16]


def removal_name(training: str, uid: str) -> str:
    """Name of the note that a training's versions go with it, and of the Job that removes them."""
    return f"{training}-{run_id(uid, 0)}-r"


def server_name(deployment: str, digest: str) -> str:
    """Name of the Deployment that serves one version, and of the Service in front of its pods."""
    return f"{deployment}-{digest.removeprefix('sha256:')[:10]}"


def route_name(deployment: str) -> str:
    """Name of the ConfigMap that tells the pods of a ModelDeployment how they share its traffic."""
    return f"{deployment}-route"


def cron_job_name(monitor: str) -> str:
    """Name of a monitor's CronJob; CronJob names may have 52 characters, as ours."""
    return monitor


def monitor_account_name(monitor: str) -> str:
    """Name of the ServiceAccount, Role and RoleBinding of a monitor's pods."""
    return f"{monitor}-monitor"


def store_claim(storage_uri: str) -> str | None:
    """The claim of a `pvc://` storage address; None for object storage."""
    if not storage_uri.startswith(STORE_CLAIM_PREFIX):
        return None
    return storage_uri.removeprefix(STORE_CLAIM_PREFIX)
