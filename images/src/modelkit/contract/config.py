"""What the operator tells a workload pod: one JSON document in the environment variable MODELLOOP_CONFIG.

Addresses are already resolved for the inside of a pod: `builtin://`, `file://` (a mounted volume), `s3://`, `gs://`,
`az://` or `https://`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from modelkit.contract.environment import DATA_ENV_PREFIX, STORE_ENV_PREFIX
from modelkit.contract.recipe import (
    ColumnPreprocessingConfig,
    ColumnTypeConfig,
    CompressConfig,
    CrossValidationConfig,
    CustomConfig,
    ExplainConfig,
    OriginConfig,
    SearchParameterConfig,
    SelectionConfig,
    SignConfig,
    SliceConfig,
    SplitConfig,
    TuningConfig,
    ValidationConfig,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where versions, captures and reports live: `file:///var/lib/modelloop/store` or `s3://bucket/prefix`."""

    uri: str
    env_prefix: str = STORE_ENV_PREFIX
    """Environment variables with this prefix hold credentials under their usual names (AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The training source. `display_uri` is what the user wrote, for messages."""

    uri: str
    display_uri: str
    target: str
    features: tuple[str, ...] = ()
    """Empty: every column but the target, the weight, the group and the time column."""
    env_prefix: str = DATA_ENV_PREFIX
    format: str | None = None
    """CSV, Parquet or JSONLines; None: by the name's ending."""
    columns: tuple[ColumnTypeConfig, ...] = ()
    weight: str | None = None
    """Column of the rows' weights, for fitting and for metrics."""
    group: str | None = None
    """Column whose values must not be on both sides of a split."""
    time: str | None = None
    """Column that orders the rows: the newest are the test part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateConfig:
    """One estimator of the allow-list with fixed parameters, and those that are searched."""

    estimator: str
    params: Mapping[str, Any] = field(default_factory=dict)
    search: tuple[SearchParameterConfig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessingConfig:
    """How columns become numbers. `Auto`: scale for estimators that need it, impute where values are missing."""

    scaling: str = "Auto"
    """Auto, None, Standard, MinMax or Robust."""
    imputation: str = "Auto"
    """Auto (median and most frequent), Mean, Median, MostFrequent, Constant, KNN, DropRows or None."""
    fill_value: float = 0.0
    """Constant: of numbers."""
    fill_text: str = "missing"
    """Constant: of categories."""
    transform: str = "None"
    """None, Power (Yeo-Johnson) or Quantile (to a normal distribution)."""
    encoding: str = "Auto"
    """Of categories. Auto (OneHot, and Target above 50 of them), OneHot, Ordinal or Target."""
    text: str = "TfIdf"
    """Of columns of type Text: TfIdf or Hashing."""
    columns: tuple[ColumnPreprocessingConfig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonConfig:
    """A metric of the new version and of the champion on the same rows, with a paired bootstrap interval."""

    metric: str
    confidence: float = 0.95
    slice: str = ""
    """Name of the slice; empty: all rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRef:
    """A stored version and the digest that it must have."""

    number: int
    path: str
    """Directory relative to the store's root."""
    digest: str
    """`sha256:<hex>` of the bytes of its manifest.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackConfig:
    """Labelled captured rows to learn from: requests of `deployment` joined with feedback by request id."""

    deployment: str
    since: datetime
    until: datetime
    policy: str = "Append"
    """Append: training source and captured rows; Replace: the captured rows take the place of as many of the source's
    oldest, so that the training part keeps its size; Window: captured rows only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerConfig:
    """One training run."""

    namespace: str
    name: str
    number: int
    """Number of the run and of the version it makes."""
    version: str
    """`<number>-<run id>`: the version's directory name; unique over deletions and re-creations of the name."""
    trigger: str
    """Why the run exists: Created, SpecChanged, Requested, Monitor, Scheduled or ResultLost."""
    store: StoreConfig
    data: DataConfig
    candidates: tuple[CandidateConfig, ...]
    task: str | None = None
    """Classification or Regression; None infers it from the target and the candidates."""
    metric: str | None = None
    """The primary metric; None: the task's default."""
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    folds: int = 5
    test_fraction: float = 0.2
    seed: int = 0
    comparisons: tuple[ComparisonConfig, ...] = ()
    champion: VersionRef | None = None
    feedback: FeedbackConfig | None = None
    validation: ValidationConfig | None = None
    split: SplitConfig | None = None
    cross_validation: CrossValidationConfig | None = None
    selection: SelectionConfig | None = None
    tuning: TuningConfig | None = None
    slices: tuple[SliceConfig, ...] = ()
    explain: ExplainConfig | None = None
    compress: CompressConfig | None = None
    custom: CustomConfig | None = None
    sign: SignConfig | None = None
    origin: OriginConfig | None = None
    uid: str | None = None
    """Of the ModelTraining: tells its versions from those of others that had its name."""
    keep_versions: tuple[str, ...] | None = None
    """Directory names of versions that are in use. Others that runs of this ModelTraining made are removed when a run
    has made a new one; None: none are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalConfig:
    """The versions of a ModelTraining that was deleted."""

    namespace: str
    name: str
    uid: str
    """Of the ModelTraining: another one may have its name by now."""
    store: StoreConfig
    keep_versions: tuple[str, ...] = ()
    """Directory names of versions that are in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """Which requests are written to the store, and what of them."""

    sample_percent: int = 100
    flush_seconds: float = 5.0
    max_queue: int = 10_000
    """Rows waiting to be written; more are dropped and counted."""
    drop: tuple[str, ...] = ()
    """Columns that are never written."""
    hash: tuple[str, ...] = ()
    """Columns of which only a keyed hash is written (HMAC-SHA-256 under `key_path`)."""
    key_path: str | None = None
    """File with the key of `hash`."""
    retention_seconds: float | None = None
    """Segments that are older are removed; None: kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """What clients may ask of the server."""

    max_header_bytes: int = 16_384
    """Of a request's line and headers: 431."""
    max_body_bytes: int = 1_048_576
    """Also after decompression: 413."""
    max_rows: int = 10_000
    max_depth: int = 64
    """How deep JSON may be nested: 422."""
    max_text_bytes: int = 65_536
    """Of one text value: 422."""
    max_concurrent: int = 64
    """Inference requests that are answered or wait: 503."""
    max_connections: int = 4_096
    header_seconds: float = 10.0
    """For a request's line and headers, from its first byte or the connection's beginning: 408."""
    body_seconds: float = 30.0
    """408."""
    inference_seconds: float = 30.0
    """504."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """Requests that wait at the same time are answered by one call of the model."""

    max_rows: int = 256
    """In one call; 1: none are put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Files of a Secret of type kubernetes.io/tls. They are read again when they change."""

    certificate_path: str
    key_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who may ask: requests with one of these bearer tokens. Probes and metrics are open."""

    directory: str
    """A mounted Secret: every value of it is a token. Read again when it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Another model server in the same pod, which the server asks instead of loading the model."""

    address: str
    """`http://127.0.0.1:<port>`."""
    protocol: str
    """V2 (Open Inference Protocol, JSON over REST), V1 (TensorFlow Serving's REST form) or Raw: everything that isn't
    one of the server's own paths is passed on as it is."""
    model_name: str
    """As the runtime knows the model."""
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One model version behind REST and gRPC."""

    namespace: str
    deployment: str
    """Name of the ModelDeployment; also the model's name in the protocol."""
    version: VersionRef
    store: StoreConfig
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    drain_seconds: float = 5.0
    """After SIGTERM: how long the pod answers on while endpoints forget it."""
    grpc_age_seconds: float | None = None
    """gRPC connections end after about so long, and clients make new ones, perhaps to another pod. A pod that stops
    waits so long for its clients to go. None: they last, and a call may be lost when the pod stops."""
    public_key: str | None = None
    """Path of a PEM file: only a version whose manifest is signed by this key is served."""
    tls: TlsConfig | None = None
    auth: AuthConfig | None = None
    runtime: RuntimeConfig | None = None
