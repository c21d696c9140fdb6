"""From a configuration to something that answers: fetch, verify, load, ask the samples, open the capture streams."""

from dataclasses import dataclass
from pathlib import Path

from modelkit.artifact.signature import Signature, load_signature
from modelkit.artifact.signing import verify_version
from modelkit.artifact.version import fetch_version
from modelkit.contract.files import (
    FEEDBACK_STREAM,
    MODEL_ONNX,
    MODEL_SKOPS,
    REFERENCE,
    REQUESTS_STREAM,
    SERVICE_STREAM,
    SIGNATURE,
)
from modelkit.serve.batch import Features
from modelkit.serve.capture import SegmentWriter
from modelkit.serve.deadline import loading_deadline
from modelkit.serve.errors import ModelUnusableError
from modelkit.serve.explainer import open_explainer
from modelkit.serve.metrics import COUNTED_ROUTES, ServerMetrics, StreamMetrics, prediction_edges
from modelkit.serve.minutes import SUFFIX, MinuteBook, MinuteWriter
from modelkit.serve.model import Model, load_model
from modelkit.serve.retention import Retention, Stream
from modelkit.serve.rollout.follower import Follower
from modelkit.serve.rollout.pairs import Scale, read_scale
from modelkit.serve.runtime.loading import RemoteVersion, open_remote
from modelkit.serve.service import Service, utc_now
from modelkit.serve.settings import Settings
from modelkit.serve.warmup import Cost, warm_up
from modelkit.store.segments import SegmentNames
from modelkit.store.store import Store

_FLUSH_SECONDS = 10.0
"""How long the last segments may take after the last answer."""
_MINUTE_FLUSHES = 2
"""So much more seldom than segments are counts of requests written, each time those of the whole hour."""


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that answered its samples."""

    service: Service
    cost: Cost
    writers: tuple[SegmentWriter | MinuteWriter, ...]
    retention: Retention | None = None
    remote: RemoteVersion | None = None
    """Another model server in the pod that answers in the model's place."""

    def close(self) -> None:
        """Write what was captured and stop the writers; raises ModelUnusableError when the runtime was refused."""
        if self.retention is not None:
            self.retention.close()
        for writer in self.writers:
            writer.close(_FLUSH_SECONDS)
        if self.remote is not None:
            self.remote.close()


def load_version(settings: Settings, store: Store, threads: int) -> LoadedVersion:
    """Load the configured version into `settings.work`, with `threads` per inference.

    With a public key in the configuration, the version's signature is verified before anything of it is parsed.
    Raises ArtifactError when what is stored isn't the version, RefusedError for a key that can't be used,
    ModelUnusableError when the version can't be served, StoreError when the store can't be read.
    """
    config = settings.config
    if config.public_key is not None:
        verify_version(store, config.version, Path(config.public_key))
    target = settings.work / config.version.digest.removeprefix("sha256:")
    remote, explainer = None, None
    if config.runtime is not None:
        directory = fetch_version(store, config.version, target, without=(MODEL_ONNX, MODEL_SKOPS, REFERENCE))
        signature = load_signature((directory / SIGNATURE).read_bytes())
        remote = open_remote(config, config.runtime, signature, directory)
        model: Model = remote.model
        cost = remote.cost
    else:
        directory = fetch_version(store, config.version, target, without=(REFERENCE,))
        signature = load_signature((directory / SIGNATURE).read_bytes())
        _refuse_without_model(directory, signature)
        with loading_deadline(settings.load_seconds, settings.termination_log):
            model = load_model(directory, signature, threads)
            cost = warm_up(directory, signature, model)
            explainer = open_explainer(directory, signature, model)
    metrics = ServerMetrics(model=config.deployment, version=str(signature.number), digest=config.version.digest)
    metrics.declare_classes(signature.classes)
    if signature.classes is None:
        metrics.declare_bins(prediction_edges(directory))
    # Feedback first: it is the one that must not be lost when time is short at the end.
    feedback = _open_writer(settings, store, FEEDBACK_STREAM, metrics)
    requests = _open_writer(settings, store, REQUESTS_STREAM, metrics)
    rollout = _build_follower(settings, signature, read_scale(directory, signature.classes), metrics, remote)
    service = Service(config, signature, model, metrics, requests, feedback, explainer, remote=remote, rollout=rollout)
    writers = (feedback, requests, _open_minutes(settings, store, signature.number, metrics))
    return LoadedVersion(service, cost, writers, _start_retention(settings, store, metrics), remote)


def _build_follower(
    settings: Settings, signature: Signature, scale: Scale, metrics: ServerMetrics, remote: RemoteVersion | None
) -> Follower:
    config = settings.config
    return Follower(
        settings.route,
        config.version.digest,
        Features.of(signature),
        scale,
        metrics,
        max_in_flight=config.limits.max_concurrent,
        tls=config.tls,
        own_ip=settings.pod_ip,
        is_relay=remote is not None and remote.relay is not None,
    )


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


def _open_minutes(settings: Settings, store: Store, version: int, metrics: ServerMetrics) -> MinuteWriter:
    config = settings.config
    names = SegmentNames(config.namespace, config.deployment, SERVICE_STREAM, settings.pod, utc_now(), SUFFIX)
    writer = MinuteWriter(
        store,
        MinuteBook(names, config.version.digest, version),
        lambda: metrics.read_times(COUNTED_ROUTES),
        StreamMetrics(metrics, SERVICE_STREAM),
        flush_seconds=_MINUTE_FLUSHES * config.capture.flush_seconds,
        clock=utc_now,
    )
    writer.start()
    return writer


def _start_retention(settings: Settings, store: Store, metrics: ServerMetrics) -> Retention | None:
    config = settings.config
    if config.capture.retention_seconds is None:
        return None
    streams = [
        Stream(config.namespace, config.deployment, stream, StreamMetrics(metrics, stream))
        for stream in (FEEDBACK_STREAM, REQUESTS_STREAM, SERVICE_STREAM)
    ]
    retention = Retention(store, streams, config.capture.retention_seconds, utc_now)
    retention.start()
    return retention
