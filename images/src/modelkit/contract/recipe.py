"""How a version is made, in the words of the contract: parts of the TrainerConfig that a run may do without.

A part that is None, or an empty tuple, isn't asked for. The names of choices are those of the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelkit.contract.files import WORK_MOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnTypeConfig:
    """What a column is, where the data doesn't say it."""

    name: str
    type: str
    """Number, Boolean, Category, Text (words, not a label) or Time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedColumnConfig:
    """What the data must be like in one column. A limit that is None isn't checked."""

    name: str
    type: str | None = None
    """Number, Boolean, Category, Text or Time."""
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    max_missing_share: float | None = None
    """0 to 1."""
    values: tuple[str, ...] = ()
    """The categories that are expected; others count as unseen."""
    max_unseen_share: float | None = None
    """0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """The gate that data must pass before anything is learnt from it."""

    baseline: str = "Champion"
    """Champion: what isn't stated is expected to be as in the champion's data. None: only what is stated."""
    columns: tuple[ExpectedColumnConfig, ...] = ()
    extra_columns: str = "Fail"
    """Ignore, Warn or Fail: columns that the baseline doesn't have, unless the features are named."""
    column_order: str = "Fail"
    """Ignore, Warn or Fail: columns in another order than the baseline's, unless the features are named."""
    label_noise: str = "Fail"
    """Ignore, Warn or Fail: neither the new version nor the champion finds the labels that it once found."""
    duplicates: str = "Warn"
    """Ignore, Warn or Fail: rows that are there twice."""
    max_duplicate_share: float = 0.0
    """0 to 1; more is a finding."""
    leakage: str = "Warn"
    """Ignore, Warn or Fail: a feature that by itself nearly tells the target."""
    min_label_share: float | None = None
    """0 to 1: the rarest class must have this share."""
    max_label_shift: float | None = None
    """0 to 1: how far the share of a class may be from the baseline's."""
    min_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitConfig:
    """How test and validation parts are chosen."""

    method: str = "Auto"
    """Auto (Time with a time column, else Group with a group column, else Stratified for classes, else Random),
    Random, Stratified, Group or Time."""
    validation_fraction: float = 0.0
    """Share of all rows that ranks the trials instead of a cross-validation; 0: cross-validation does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidationConfig:
    """How the training part is folded."""

    method: str = "Auto"
    """Auto (as the split), KFold, Stratified, Group, TimeSeries or LeaveOneOut."""
    repeats: int = 1
    """KFold and Stratified: that often, with other seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnPreprocessingConfig:
    """What is done otherwise with one column; None: as with the others."""

    name: str
    imputation: str | None = None
    fill_value: float | None = None
    fill_text: str | None = None
    scaling: str | None = None
    transform: str | None = None
    encoding: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Which of the preprocessed features the estimator gets."""

    method: str
    """Variance, MutualInformation, Chi2, AnovaF, TreeImportance, L1 or RFE."""
    features: int | None = None
    """How many. None, and share too: half of them; Variance, TreeImportance and L1 go by their threshold."""
    share: float | None = None
    """0 to 1, instead of `features`."""
    threshold: float | None = None
    """Variance: lowest variance that stays (0: drop what is constant). TreeImportance, L1: lowest importance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameterConfig:
    """One dimension of a search space."""

    name: str
    """A parameter of the estimator, or `featureSelection.features`, or `featureSelection.share`."""
    type: str
    """Int, Float or Choice."""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    """Int and Float: distance of the grid's points. None: 1 for Int, 5 points for Float on a grid."""
    log: bool = False
    """Sample, and lay the grid's points, evenly in the logarithm."""
    values: tuple[Any, ...] = ()
    """Choice: plain JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """How the candidates' search spaces are searched."""

    method: str = "Random"
    """Grid, Random, Halving (successive halving over the rows) or TPE."""
    trials: int = 20
    """Parameter sets in all for Random, Halving (of its first round) and TPE, shared evenly by the candidates that
    have a search space."""
    time_limit_seconds: float | None = None
    """No trial begins after it; what is done by then decides."""
    patience: int | None = None
    """Stop after that many trials without a better one."""
    parallelism: int = 1
    """Worker pods beside the trainer's; 1: the search stays in the trainer's pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceConfig:
    """Rows that are judged by themselves: those whose column has one of the values, or is within the bounds."""

    name: str
    column: str
    values: tuple[str, ...] = ()
    minimum: float | None = None
    """Included."""
    maximum: float | None = None
    """Excluded."""
    metrics: tuple[str, ...] = ()
    """Metrics that gates ask of this slice: only these go into the termination message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainConfig:
    """What the model card shows beside permutation importance, which is always there, and what is kept for monitors."""

    shap_rows: int = 0
    """Evaluation rows that SHAP values are computed for; 0: none."""
    partial_dependence: int = 3
    """Of that many of the most important features."""
    learning_curve: bool = True
    reference_rows: int = 2000
    """At most so many evaluation rows are kept with the version; 0: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentConfig:
    """The smaller estimator that learns the answers of the one that was chosen."""

    estimator: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressConfig:
    """How the chosen model is made smaller and faster, within `max_drop` of the primary metric."""

    methods: tuple[str, ...]
    """In this order: Pruning, Distillation, Quantization."""
    max_drop: float
    """In the metric's own unit; measured on the validation part, never on the test part."""
    student: StudentConfig | None = None
    """Distillation's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomConfig:
    """A model of the user's own image, which reads `inputs` and writes `outputs`; the trainer does the rest."""

    inputs: str
    outputs: str
    state: str = f"{WORK_MOUNT}/stage.json"
    """A file that only the trainer's own containers can read, between its first step and its last."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Handed to the image as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignConfig:
    """The version's manifest is signed."""

    private_key: str
    """Path of a PEM file in the pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginConfig:
    """Where a run comes from, for the version's records."""

    image: str | None = None
    revision: str | None = None
    """Label `modelloop.dev/revision` of the ModelTraining: the revision of the repository that it was applied from."""
