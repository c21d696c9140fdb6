"""The rows of a ModelTraining: where they are, what their columns are, what they must be like, how they are split."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelkit.contract.estimators import BUILTIN_DATASETS
from modelloop.api.common import ApiModel, LocalRef, cel, validations

ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
ColumnType = Literal["Number", "Boolean", "Category", "Text", "Time"]
Severity = Literal["Ignore", "Warn", "Fail"]
Share = Annotated[float, Field(ge=0, le=1)]

_SCHEMES = ("builtin", "pvc", "s3", "gs", "az", "https", "work")
_REMOTE = "['s3://', 'gs://', 'az://', 'https://'].exists(scheme, self.uri.startsWith(scheme))"
_ENDING = "[.](csv|parquet|jsonl|ndjson|csv[.]gz|jsonl[.]gz|ndjson[.]gz)$"
_PLACES = {
    "pvc": ("^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.*$", "must be pvc://<claim>/<path>"),
    "s3": ("^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]/.*$", "must be s3://<bucket>/<key>"),
    "gs": ("^gs://[a-z0-9][-._a-z0-9]{1,220}[a-z0-9]/.*$", "must be gs://<bucket>/<key>"),
    "az": ("^az://[a-z0-9][-a-z0-9]{1,61}[a-z0-9]/.*$", "must be az://<container>/<path>"),
    "https": ("^https://[^/@ ]+/.*$", "must be https://<host>/<path>, with credentials in secretRef"),
    "work": ("^work://[^/ ].*$", "must be work://<path below the work volume's data folder>"),
}


def _place_rules() -> list[dict[str, str]]:
    return [
        cel(f"!self.startsWith('{scheme}://') || self.matches('{pattern}')", message)
        for scheme, (pattern, message) in _PLACES.items()
    ]


class ColumnTypeSpec(ApiModel):
    """What a column is, where the data doesn't say it."""

    name: Annotated[ColumnName, Field(description="Name of the column.")]
    type: Annotated[
        ColumnType,
        Field(
            description="Category also takes whole numbers that are codes; Text is words to be read, Time an ISO 8601 "
            "date or time."
        ),
    ]


class DataSource(ApiModel):
    """The rows to learn from."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                f"{_REMOTE} || !has(self.secretRef)",
                "secretRef must be used with an s3://, gs://, az:// or https:// uri only",
            ),
            cel("!(self.target in self.features)", "features must not name the target"),
            cel(
                "has(self.format) || self.uri.startsWith('builtin://') || self.uri.endsWith('/') || "
                f"self.uri.matches('{_ENDING}')",
                "uri must end in .csv, .parquet, .jsonl or .ndjson (or the first, third and fourth with .gz), or in / "
                "for all such files below it; or format must say what the files are",
            ),
            cel(
                "[has(self.weight) ? self.weight : '', has(self.group) ? self.group : '', "
                "has(self.time) ? self.time : ''].all(name, name != self.target)",
                "weight, group and time must not name the target",
            ),
        )
    )

    uri: Annotated[
        str,
        Field(
            max_length=1024,
            description="`builtin://<data set of scikit-learn>`, `pvc://<claim>/<path>`, `s3://<bucket>/<key>`, "
            "`gs://<bucket>/<key>`, `az://<container>/<path>`, `https://<host>/<path>` or `work://<path>` (what "
            "spec.prepare wrote); CSV with a header, Parquet or JSON lines. One file, a glob such as "
            "`s3://lake/churn/2026-*/*.parquet`, or a prefix that ends in `/`. A builtin set can be sliced: "
            "`builtin://iris?rows=0:100`.",
            json_schema_extra=validations(
                cel(
                    f"[{', '.join(repr(f'{scheme}://') for scheme in _SCHEMES)}].exists(scheme, "
                    "self.startsWith(scheme))",
                    "must start with builtin://, pvc://, s3://, gs://, az://, https:// or work://",
                ),
                cel(
                    "!self.startsWith('builtin://') || "
                    f"self.matches('^builtin://({'|'.join(BUILTIN_DATASETS)})([?]rows=[0-9]*:[0-9]*)?$')",
                    f"must name a data set of scikit-learn after builtin://: {', '.join(BUILTIN_DATASETS)}",
                ),
                *_place_rules(),
            ),
        ),
    ]
    format: Annotated[
        Literal["CSV", "Parquet", "JSONLines"] | None,
        Field(description="What the files are, when their names don't end in it."),
    ] = None
    target: Annotated[str, Field(min_length=1, max_length=256, description="The column to predict.")]
    features: Annotated[
        tuple[ColumnName, ...],
        Field(
            description="Columns to learn from; when empty, all but the target, the weight, the group and the time "
            "column.",
            max_length=1000,
        ),
    ] = ()
    columns: Annotated[
        tuple[ColumnTypeSpec, ...],
        Field(
            max_length=200,
            description="Types of columns that aren't seen rightly by themselves.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    weight: Annotated[
        ColumnName | None, Field(description="Column of the rows' weights, for fitting and for metrics.")
    ] = None
    group: Annotated[
        ColumnName | None,
        Field(description="Column such as a customer's number: rows of one group stay on one side of a split."),
    ] = None
    time: Annotated[
        ColumnName | None, Field(description="Column that orders the rows: the newest are the test part.")
    ] = None
    secret_ref: Annotated[
        LocalRef | None,
        Field(
            description="Secret with the credentials of the source: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, "
            "where needed, AWS_REGION and AWS_ENDPOINT_URL; the other schemes' keys are in the documentation."
        ),
    ] = None


class ExpectedColumn(ApiModel):
    """What the data must be like in one column."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("!has(self.min) || !has(self.max) || self.min <= self.max", "min must be at most max"),
            cel(
                "!has(self.maxUnseenShare) || size(self.values) > 0",
                "maxUnseenShare must be used with values",
            ),
        )
    )

    name: Annotated[ColumnName, Field(description="Name of the column.")]
    type: Annotated[ColumnType | None, Field(description="What it must hold.")] = None
    required: Annotated[bool, Field(description="Whether it must be there.")] = True
    min: Annotated[float | None, Field(description="Lowest number that is expected.")] = None
    max: Annotated[float | None, Field(description="Highest number that is expected.")] = None
    max_missing_share: Annotated[Share | None, Field(description="Share of rows that may have no value, 0 to 1.")] = (
        None
    )
    values: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...],
        Field(max_length=200, description="Categories that are expected."),
    ] = ()
    max_unseen_share: Annotated[
        Share | None, Field(description="Share of rows that may have another category; none when not set.")
    ] = None


class Validation(ApiModel):
    """The gate that data must pass before anything is learnt from it. A finding that fails ends the run."""

    baseline: Annotated[
        Literal["Champion", "None"],
        Field(
            description="Champion: what isn't stated is expected to be as in the champion's data. None: only what is "
            "stated counts."
        ),
    ] = "Champion"
    columns: Annotated[
        tuple[ExpectedColumn, ...],
        Field(
            max_length=200,
            description="What single columns must be like.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    extra_columns: Annotated[
        Severity, Field(description="Columns that the baseline doesn't have; naming data.features consents to them.")
    ] = "Fail"
    column_order: Annotated[
        Severity,
        Field(description="Columns in another order than the baseline's; naming data.features consents to them."),
    ] = "Fail"
    label_noise: Annotated[
        Severity,
        Field(
            description="Neither the new version nor the champion finds the labels as the champion did on its own test "
            "part: many of them are probably wrong."
        ),
    ] = "Fail"
    duplicates: Annotated[Severity, Field(description="Rows that are there twice.")] = "Warn"
    max_duplicate_share: Annotated[Share, Field(description="Share of such rows that is no finding.")] = 0.0
    leakage: Annotated[Severity, Field(description="A feature that by itself nearly tells the target.")] = "Warn"
    min_label_share: Annotated[
        Share | None, Field(description="Share of the rows that the rarest class must have, 0 to 1.")
    ] = None
    max_label_shift: Annotated[
        Share | None, Field(description="How far the share of a class may be from the baseline's, 0 to 1.")
    ] = None
    min_rows: Annotated[int | None, Field(ge=1, description="Fewest rows to learn from.")] = None


class Split(ApiModel):
    """How rows are kept back for the test, and for the validation of trials."""

    method: Annotated[
        Literal["Auto", "Random", "Stratified", "Group", "Time"],
        Field(
            description="Auto: by time with a time column, else by group with a group column, else stratified for "
            "classes, else random."
        ),
    ] = "Auto"
    validation_fraction: Annotated[
        float,
        Field(
            ge=0,
            le=0.5,
            description="Share of all rows that ranks the trials instead of a cross-validation; 0: cross-validation "
            "does.",
        ),
    ] = 0.0


class Slice(ApiModel):
    """Rows that are judged by themselves too."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "size(self.values) > 0 ? !has(self.min) && !has(self.max) : has(self.min) || has(self.max)",
                "must set either values, or min, max or both",
            ),
            cel("!has(self.min) || !has(self.max) || self.min < self.max", "min must be below max"),
        )
    )

    name: Annotated[
        str, Field(min_length=1, max_length=63, description="Name of the slice, for gates, status and card.")
    ]
    column: Annotated[ColumnName, Field(description="The column that tells; it need not be a feature.")]
    values: Annotated[
        tuple[Annotated[str, Field(max_length=256)], ...],
        Field(max_length=50, description="Rows with one of these values."),
    ] = ()
    min: Annotated[float | None, Field(description="Rows with at least this number.")] = None
    max: Annotated[float | None, Field(description="Rows with less than this number.")] = None
