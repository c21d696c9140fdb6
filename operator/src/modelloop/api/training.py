"""ModelTraining: keeps one model trained."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelkit.contract.estimators import CLASSIFIERS, REGRESSORS
from modelkit.contract.metrics import METRICS
from modelloop.api.common import (
    ApiModel,
    Conditions,
    Image,
    MetricValues,
    Resources,
    Storage,
    VersionStatus,
    cel,
    validations,
)
from modelloop.api.custom import CUSTOM_RULES, OwnImages
from modelloop.api.data import DataSource, Slice, Split, Validation
from modelloop.api.lifecycle import (
    Lifecycle,
    RunCost,
    RunProgress,
    ScheduleStatus,
    Spending,
    TotalCost,
)
from modelloop.api.modelling import (
    Candidate,
    Compress,
    CrossValidation,
    Explain,
    FeatureSelection,
    Preprocessing,
    Tuning,
)


def _cel_list(names: Any) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"


class Gate(ApiModel):
    """A condition that a new version must meet to become the champion."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.min) || has(self.max) || has(self.maxDrop)",
                "must set at least one of min, max and maxDrop",
            ),
            cel("!has(self.min) || !has(self.max) || self.min <= self.max", "min must be at most max"),
            cel("!has(self.confidence) || has(self.maxDrop)", "confidence must be used with maxDrop"),
        )
    )

    metric: Annotated[
        str,
        Field(max_length=64, description="A scikit-learn metric.", json_schema_extra={"enum": list(METRICS)}),
    ]
    slice: Annotated[
        str, Field(max_length=63, description="Name of one of spec.slices: only its rows count. Empty: all rows.")
    ] = ""
    min: Annotated[float | None, Field(description="Lowest value that passes.")] = None
    max: Annotated[float | None, Field(description="Highest value that passes.")] = None
    max_drop: Annotated[
        float | None,
        Field(ge=0, description="How much worse than the champion, on the same rows, still passes."),
    ] = None
    confidence: Annotated[
        float | None,
        Field(
            ge=0.5,
            lt=1,
            description="With maxDrop: the paired bootstrap interval at this confidence must decide; when it "
            "doesn't, the verdict is Inconclusive. Without: the plain difference decides.",
        ),
    ] = None


class ModelTrainingSpec(Lifecycle, OwnImages):
    """What model to keep trained, from which rows, and how good it must be."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                f"self.candidates.all(c, c.estimator in {_cel_list(CLASSIFIERS)}) || "
                f"self.candidates.all(c, c.estimator in {_cel_list(REGRESSORS)})",
                "candidates must be all classifiers or all regressors",
            ),
            cel(
                "!has(self.task) || self.task == 'Regression' || "
                f"self.candidates.all(c, c.estimator in {_cel_list(CLASSIFIERS)})",
                "candidates must be classifiers when task is Classification",
            ),
            cel(
                "!has(self.task) || self.task == 'Classification' || "
                f"self.candidates.all(c, c.estimator in {_cel_list(REGRESSORS)})",
                "candidates must be regressors when task is Regression",
            ),
            cel(
                "self.gates.all(gate, gate.slice == '' || self.slices.exists(slice, slice.name == gate.slice))",
                "slice of a gate must be the name of one of spec.slices",
            ),
            cel(
                "self.split.validationFraction + self.testFraction <= 0.8",
                "testFraction and split.validationFraction must leave at least 0.2 of the rows for training",
            ),
            *CUSTOM_RULES,
        )
    )

    data: DataSource
    candidates: Annotated[
        tuple[Candidate, ...],
        Field(
            max_length=20,
            description="Estimators to try; cross-validation on the training part picks one.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    gates: Annotated[
        tuple[Gate, ...],
        Field(
            max_length=20,
            description="Every gate must pass. With none on min or max, the version must beat the trivial "
            "predictor. A version must also be at least as good as the champion on the same rows, unless a gate on "
            "maxDrop says how much it may lose.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["metric", "slice"]},
        ),
    ] = ()
    task: Annotated[
        Literal["Classification", "Regression"] | None, Field(description="Inferred from the candidates.")
    ] = None
    metric: Annotated[
        str | None,
        Field(
            description="Ranks the candidates; f1 for classification and rmse for regression when not set.",
            json_schema_extra={"enum": list(METRICS)},
        ),
    ] = None
    validation: Validation = Validation()
    split: Split = Split()
    preprocessing: Preprocessing = Preprocessing()
    feature_selection: FeatureSelection | None = None
    tuning: Tuning = Tuning()
    folds: Annotated[int, Field(ge=2, le=20, description="Folds of the cross-validation.")] = 5
    cross_validation: CrossValidation = CrossValidation()
    slices: Annotated[
        tuple[Slice, ...],
        Field(
            max_length=20,
            description="Groups of rows that are measured by themselves, and that gates can name.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    explain: Explain = Explain()
    compress: Compress | None = None
    test_fraction: Annotated[float, Field(ge=0.05, le=0.5, description="Share of the rows held out for the test.")] = (
        0.2
    )
    seed: Annotated[int, Field(ge=0, le=4294967295, description="Makes a run repeatable.")] = 0
    storage: Storage = Storage()
    image: Annotated[
        Image | None,
        Field(description="Another trainer image under the same contract; with command: the image that trains."),
    ] = None
    resources: Resources = Resources()
    retries: Annotated[
        int,
        Field(ge=0, le=10, description="Attempts after a failure that is not due to the spec or the data."),
    ] = 2


class Trigger(ApiModel):
    """Why a run exists."""

    reason: Literal["Created", "SpecChanged", "Requested", "Monitor", "Scheduled", "ResultLost"]
    id: Annotated[
        str,
        Field(
            max_length=256,
            description="What makes the trigger once-only: a token, a monitor's request, or a time of the schedule.",
        ),
    ] = ""
    monitor: Annotated[str | None, Field(max_length=63)] = None


class Feedback(ApiModel):
    """Labelled captured rows that a run learns from."""

    deployment: Annotated[str, Field(max_length=63)]
    since: AwareDatetime
    until: AwareDatetime
    policy: Literal["Append", "Replace", "Window"]


class FailedGate(ApiModel):
    """A gate that a version didn't meet."""

    metric: Annotated[str, Field(max_length=64)]
    slice: Annotated[str, Field(max_length=63)] = ""
    rule: Annotated[str, Field(max_length=32, description="min, max, maxDrop, trivial or primary.")]
    value: float | None = None
    limit: float | None = None
    message: Annotated[str, Field(max_length=512)] = ""


class RunStatus(ApiModel):
    """A run that is under way. Written before its Job is made, so that a crash in between makes nothing twice."""

    number: Annotated[int, Field(ge=1)]
    version: Annotated[str, Field(max_length=64, description="Directory name of the version it makes.")]
    job: Annotated[str, Field(max_length=63)]
    spec_hash: Annotated[str, Field(max_length=64)]
    pod_hash: Annotated[str, Field(max_length=64)]
    trigger: Trigger
    feedback: Feedback | None = None
    storage: Storage = Storage()
    start_time: AwareDatetime
    workers: Annotated[int, Field(ge=0, le=100, description="Pods beside the trainer's that share its search.")] = 0
    revision: Annotated[str | None, Field(max_length=256)] = None
    signing_secret: Annotated[str | None, Field(max_length=63)] = None
    config: Annotated[str, Field(max_length=65536, description="What the trainer is told, fixed when the run began.")]
    progress: RunProgress | None = None


class DataFinding(ApiModel):
    """Something about a run's data that isn't as expected."""

    column: Annotated[str, Field(max_length=256, description="Empty: the rows as a whole.")] = ""
    rule: Annotated[str, Field(max_length=64)]
    value: float | None = None
    limit: float | None = None
    message: Annotated[str, Field(max_length=512)] = ""
    severe: Annotated[bool, Field(description="The run was refused for it; else it is a warning.")] = False


class CompressionRecord(ApiModel):
    """One step of `spec.compress`, taken or not."""

    method: Annotated[str, Field(max_length=32)]
    accepted: bool
    drop: Annotated[float, Field(description="Loss of the primary metric, in its own unit; negative is a gain.")]
    bytes_before: Annotated[int, Field(ge=0)]
    bytes_after: Annotated[int, Field(ge=0)]
    seconds_before: Annotated[float, Field(ge=0, description="To answer one row.")]
    seconds_after: Annotated[float, Field(ge=0)]
    message: Annotated[str | None, Field(max_length=512)] = None


class RunRecord(ApiModel):
    """A run that has ended."""

    number: Annotated[int, Field(ge=1)]
    verdict: Annotated[
        Literal["Approved", "Rejected", "Inconclusive", "Failed", "Superseded"],
        Field(description="Failed: no version was made."),
    ]
    reason: Annotated[str, Field(max_length=128)] = ""
    message: Annotated[str, Field(max_length=2048)] = ""
    trigger: Trigger
    spec_hash: Annotated[str, Field(max_length=64)]
    pod_hash: Annotated[str, Field(max_length=64)] = ""
    start_time: AwareDatetime
    completion_time: AwareDatetime
    signing_secret: Annotated[str | None, Field(max_length=63)] = None
    path: Annotated[str | None, Field(max_length=512)] = None
    digest: Annotated[str | None, Field(max_length=80)] = None
    estimator: Annotated[str | None, Field(max_length=64)] = None
    metric: Annotated[str | None, Field(max_length=64)] = None
    metrics: MetricValues = {}
    champion_number: Annotated[int | None, Field(description="The champion it was compared with.")] = None
    champion_metrics: Annotated[MetricValues, Field(description="The champion on the same rows.")] = {}
    evaluated_on: Annotated[str | None, Field(max_length=32)] = None
    train_rows: Annotated[int, Field(ge=0)] = 0
    test_rows: Annotated[int, Field(ge=0)] = 0
    feedback_rows: Annotated[int, Field(ge=0)] = 0
    format: Annotated[str | None, Field(max_length=32)] = None
    failed_gates: Annotated[tuple[FailedGate, ...], Field(max_length=24)] = ()
    findings: Annotated[
        tuple[DataFinding, ...], Field(max_length=5, description="Of the data's validation, the severe ones first.")
    ] = ()
    trials: Annotated[int, Field(ge=0, description="Parameter sets that were tried.")] = 0
    compressions: Annotated[tuple[CompressionRecord, ...], Field(max_length=3)] = ()
    task: Annotated[str | None, Field(max_length=32)] = None
    feedback: Annotated[Feedback | None, Field(description="The captured rows it learned from.")] = None
    storage: Annotated[Storage | None, Field(description="Where its version is stored; the default when absent.")] = (
        None
    )
    image: Annotated[str | None, Field(max_length=512, description="Image that ran, by its digest.")] = None
    revision: Annotated[
        str | None, Field(max_length=256, description="`modelloop.dev/revision` of the ModelTraining when it began.")
    ] = None
    cost: RunCost | None = None


class ChampionStatus(VersionStatus):
    """The version that deployments serve."""

    estimator: Annotated[str | None, Field(max_length=64)] = None
    task: Annotated[str | None, Field(max_length=32)] = None
    metric: Annotated[str, Field(max_length=64)]
    value: Annotated[float, Field(description="Its primary metric on its evaluation rows.")]
    spec_hash: Annotated[str, Field(max_length=64)]
    feedback: Annotated[
        Feedback | None, Field(description="The captured rows it learned from; later runs learn from them too.")
    ] = None
    approved_time: AwareDatetime
    chosen_after: Annotated[
        int | None,
        Field(description="A person chose it when this was the newest run; what ended before isn't asked about."),
    ] = None


class HandledTrigger(ApiModel):
    """The last request of one source that a run answered."""

    source: Annotated[str, Field(max_length=80)]
    id: Annotated[str, Field(max_length=256)]
    number: Annotated[int, Field(ge=1)]


class ModelTrainingStatus(ApiModel):
    """What the operator knows of the training."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    runs: Annotated[int, Field(ge=0, description="Number of runs begun so far.")] = 0
    run: RunStatus | None = None
    champion: ChampionStatus | None = None
    history: Annotated[tuple[RunRecord, ...], Field(max_length=50, description="Newest first.")] = ()
    handled: Annotated[
        tuple[HandledTrigger, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["source"]},
        ),
    ] = ()
    schedule: ScheduleStatus | None = None
    total: Annotated[TotalCost | None, Field(description="What all runs so far used.")] = None
    spent: Annotated[
        tuple[Spending, ...],
        Field(max_length=64, description="What counts against the budget, newest first; kept while there is one."),
    ] = ()
