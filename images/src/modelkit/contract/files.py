"""Names of the files and folders of the store, in one place for writers and readers.

Layout below the store's root::

    models/<namespace>/<name>/<version>/          one model version, complete once manifest.json is there
    captures/<namespace>/<deployment>/<stream>/<hour>/<pod>-<sequence>.jsonl.gz
    captures/<namespace>/<deployment>/requests/<hour>/answers-<digest>-<profile hash>-<segments>-<number>.arrow
                                                  what is joined with later feedback, instead of the segments
    captures/<namespace>/<deployment>/service/<hour>/<pod>-<start>-<sequence>.json
                                                  a pod's counts of its requests by minute (`contract.service`), written
                                                  over while the hour lasts; another start is another container
    captures/<namespace>/<deployment>/requests/<hour>/sketch-<digest>-<profile hash>-<segments>.arrow
                                                  hashes of rows, to count those that repeat others
    captures/<namespace>/<deployment>/requests/<hour>/sample-<digest>-<segments>.arrow
                                                  some of the hour's rows, the same whoever draws them
    summaries/<namespace>/<deployment>/<digest>/<profile hash>/<hour>.json
                                                  counts of an hour that is over; they outlive its captures
    reports/<namespace>/<monitor>/<window end>/   report.json and report.html
    runs/<namespace>/<name>/<version>/            while a training run lasts: its finished trials, its scheduler
"""

import hashlib
from datetime import UTC, datetime

MODEL_ONNX = "model.onnx"
MODEL_SKOPS = "model.skops"
SIGNATURE = "signature.json"
METRICS = "metrics.json"
PROFILE = "profile.json"
SOURCE = "source.json"
"""What the training source looked like, for the validation of the next one."""
IMPORTANCE = "importance.json"
EXPLANATION = "explanation.json"
"""Partial dependence, and SHAP values on request."""
SAMPLES = "samples.json"
REFERENCE = "reference.arrow"
"""Inputs of some rows of the test part, which a monitor compares rows of a window with."""
CARD = "card.md"
CARD_HTML = "card.html"
"""The model card with pictures: one file without scripts and without addresses."""
MANIFEST = "manifest.json"

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"

REQUESTS_STREAM = "requests"
FEEDBACK_STREAM = "feedback"
SERVICE_STREAM = "service"

STORE_MOUNT = "/var/lib/modelloop/store"
"""Where the store's volume is mounted in every pod."""
DATA_MOUNT = "/var/lib/modelloop/data"
"""Below it, each claim named by a `pvc://claim/path` data address is mounted under the claim's name."""
WORK_MOUNT = "/var/lib/modelloop/work"
"""An emptyDir: the only writable place of a pod beside the store."""
WORK_DATA = f"{WORK_MOUNT}/data"
"""Where `spec.prepare` writes what `work://<path>` reads."""
RUNTIME_MODELS = "/var/lib/modelloop/models"
"""Where another model server in the pod finds the verified version, read-only: `<model name>/<number>/…`."""
TLS_MOUNT = "/var/lib/modelloop/tls"
"""A mounted Secret of type kubernetes.io/tls."""
TOKENS_MOUNT = "/var/lib/modelloop/tokens"
"""A mounted Secret whose values are bearer tokens."""
CAPTURE_KEY = "/var/lib/modelloop/capture-key/key"
"""The key that hashes captured columns."""
NOTIFY_MOUNT = "/var/lib/modelloop/notify"
"""A mounted Secret with the address of a webhook."""
TERMINATION_LOG = "/dev/termination-log"


def run_id(uid: str, number: int) -> str:
    """Eight hex digits that tell runs apart even after the training with `uid` was deleted and made again."""
    return hashlib.sha256(f"{uid}/{number}".encode()).hexdigest()[:8]


def version_name(uid: str, number: int) -> str:
    """Directory name of the version that a run makes, e.g. `3-0a1b2c3d`."""
    return f"{number}-{run_id(uid, number)}"


def version_directory(namespace: str, name: str, version: str) -> str:
    """The directory of one model version, relative to the store's root. `version` is `<number>-<run id>`."""
    return f"models/{namespace}/{name}/{version}"


def signature_file(digest: str) -> str:
    """The file of a version that signs its manifest with `digest` (`sha256:<hex>`); it lies beside the manifest."""
    return f"manifest-{short_digest(digest)}.sig"


def captures_directory(namespace: str, deployment: str, stream: str) -> str:
    """The directory of one capture stream (`requests`, `feedback` or `service`) of a ModelDeployment."""
    return f"captures/{namespace}/{deployment}/{stream}"


def capture_hour(moment: datetime) -> str:
    """The hour folder of a capture segment, in UTC, e.g. `2026-03-01T14`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H")


def answers_path(folder: str, digest: str, profile_hash: str, segments: int, number: int) -> str:
    """Keys and answers of an hour's rows that the version with `digest` answered, one file of several.

    They lie in the `folder` of the hour's segments, so that they go when those go.
    """
    return f"{folder}/answers-{short_digest(digest)}-{profile_hash}-{segments}-{number:04d}.arrow"


def sketch_path(folder: str, digest: str, profile_hash: str, segments: int) -> str:
    """Hashes of the same rows; they lie and go there, too."""
    return f"{folder}/sketch-{short_digest(digest)}-{profile_hash}-{segments}.arrow"


def sample_path(folder: str, digest: str, segments: int) -> str:
    """Some of an hour's rows that the version with `digest` answered; it lies and goes there, too."""
    return f"{folder}/sample-{short_digest(digest)}-{segments}.arrow"


def summaries_directory(namespace: str, deployment: str, digest: str, profile_hash: str) -> str:
    """The summaries of the hours of one version, counted over the bins with the hash `profile_hash`."""
    return f"{deployment_summaries_directory(namespace, deployment)}/{short_digest(digest)}/{profile_hash}"


def deployment_summaries_directory(namespace: str, deployment: str) -> str:
    """The summaries of the hours of all versions of a ModelDeployment."""
    return f"summaries/{namespace}/{deployment}"


def short_digest(digest: str) -> str:
    """Sixteen hex digits of `sha256:<hex>`, for names."""
    return digest.removeprefix("sha256:")[:16]


def reports_directory(namespace: str, monitor: str) -> str:
    """All reports of a ModelMonitor; a folder each."""
    return f"reports/{namespace}/{monitor}"


def report_directory(namespace: str, monitor: str, window_end: datetime) -> str:
    """The directory of one window's report, relative to the store's root."""
    return f"{reports_directory(namespace, monitor)}/{window_end.astimezone(UTC).strftime('%Y-%m-%dT%H-%M-%SZ')}"


def run_directory(namespace: str, name: str, version: str) -> str:
    """What pods of one training run tell each other while it lasts, relative to the store's root."""
    return f"runs/{namespace}/{name}/{version}"


def trials_directory(namespace: str, name: str, version: str) -> str:
    """The finished trials of a run's search."""
    return f"{run_directory(namespace, name, version)}/trials"


def scheduler_path(namespace: str, name: str, version: str) -> str:
    """Where a run's worker pods find its scheduler: address and throw-away credentials."""
    return f"{run_directory(namespace, name, version)}/scheduler.json"


def usage_directory(namespace: str, name: str, version: str) -> str:
    """What each worker pod of a run has used."""
    return f"{run_directory(namespace, name, version)}/usage"
