"""From a configuration to something that answers: fetch, verify, load, ask the samples, open the capture streams."""

from dataclasses import dataclass
from pathlib import Path

from modelkit.artifact.signature import Signature, load_signature
from modelkit.artifact.signing import verify_version
from modelkit.artifact.version import fetch_version
from modelkit.contract.files import FEEDBACK_STREAM, MODEL_ONNX, MODEL_SKOPS, REQUESTS_STREAM, SIGNATURE
from modelkit.serve.capture import SegmentWriter
from modelkit.serve.errors import ModelUnusableError
from modelkit.serve.explainer import open_explainer
from modelkit.serve.metrics import ServerMetrics, StreamMetrics
from modelkit.serve.model import load_model
from modelkit.serve.service import Service, utc_now
from modelkit.serve.settings import Settings
from modelkit.serve.warmup import Cost, warm_up
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store

_FLUSH_SECONDS = 10.0
"""How long the last segments may take after the last answer."""


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that answered its samples."""

    service: Service
    cost: Cost
    writers: tuple[SegmentWriter, ...]

    def close(self) -> None:
        """Write what was captured and stop the writers."""
        for writer in self.writers:
            writer.close(_FLUSH_SECONDS)


def load_version(settings: Settings, store: Store, threads: int) -> LoadedVersion:
    """Load the configured version into `settings.work`, with `threads` per inference.

    With a public key in the configuration, the version's signature is verified before anything of it is parsed.
    Raises ArtifactError when what is stored isn't the version, RefusedError for a key that can't be used,
    ModelUnusableError when the version can't be served, StoreError when the store can't be read.
    """
    config = settings.config
    if config.public_key is not None:
        verify_version(store, config.version, Path(config.public_key))
    directory = fetch_version(store, config.version, settings.work / config.version.digest.removeprefix("sha256:"))
    signature = load_signature((directory / SIGNATURE).read_bytes())
    _refuse_without_model(directory, signature)
    model = load_model(directory, signature, threads)
    cost = warm_up(directory, signature, model)
    explainer = open_explainer(directory, signature, model)
    metrics = ServerMetrics(model=config.deployment, version=str(signature.number), digest=config.version.digest)
    metrics.declare_classes(signature.classes)
    # Feedback first: it is the one that must not be lost when time is short at the end.
    feedback = _open_writer(settings, store, FEEDBACK_STREAM, metrics)
    requests = _open_writer(settings, store, REQUESTS_STREAM, metrics)
    service = Service(config, signature, model, metrics, requests, feedback, explainer)
    return LoadedVersion(service, cost, (feedback, requests))


def _refuse_without_model(directory: Path, signature: Signature) -> None:
    if signature.onnx is None and not (directory / MODEL_SKOPS).exists():
        raise ModelUnusableError(
            "VersionNotServable",
            f"version {signature.number} is of a custom training that wrote no {MODEL_ONNX}, which is all that this "
            f"server runs of other frameworks; let the custom image write outputs/{MODEL_ONNX}, or serve the version "
            "with an image of your own in spec.image",
        )


def _open_writer(settings: Settings, store: Store, stream: str, metrics: ServerMetrics) -> SegmentWriter:
    config = settings.config
    names = SegmentNames(config.namespace, config.deployment, stream, settings.pod, utc_now())
    writer = SegmentWriter(
        store,
        names,
        StreamMetrics(metrics, stream),
        max_rows=config.capture.max_queue,
        flush_seconds=config.capture.flush_seconds,
    )
    metrics.watch_queue(stream, writer.waiting)
    writer.start()
    return writer
