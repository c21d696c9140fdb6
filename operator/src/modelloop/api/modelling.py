"""How a model is built: candidates and their search spaces, preprocessing, feature selection, tuning, compression."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from modelkit.contract.estimators import ESTIMATORS
from modelloop.api.common import ApiModel, Duration, cel, validations
from modelloop.api.data import ColumnName

Imputation = Literal["Auto", "None", "Mean", "Median", "MostFrequent", "Constant", "KNN", "DropRows"]
Scaling = Literal["Auto", "None", "Standard", "MinMax", "Robust"]
Transform = Literal["None", "Power", "Quantile"]
Encoding = Literal["Auto", "OneHot", "Ordinal", "Target"]
TextEncoding = Literal["TfIdf", "Hashing"]

EstimatorName = Annotated[
    str,
    Field(
        max_length=64,
        description="Class name of a scikit-learn estimator.",
        json_schema_extra={"enum": sorted(ESTIMATORS)},
    ),
]
Params = Annotated[
    dict[str, Any],
    Field(
        description="Its constructor's parameters, as in scikit-learn.",
        json_schema_extra={
            "additionalProperties": None,
            "x-kubernetes-preserve-unknown-fields": True,
            "maxProperties": 64,
        },
    ),
]


class SearchParameter(ApiModel):
    """One dimension of a candidate's search space."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            # Rules can't see values, whose items are of any type: the operator looks at those.
            cel(
                "self.type == 'Choice' ? !has(self.min) && !has(self.max) && !has(self.step) && !self.log : "
                "has(self.min) && has(self.max)",
                "must set values alone for type Choice, and min and max for Int and Float",
            ),
            cel("!has(self.min) || !has(self.max) || self.min <= self.max", "min must be at most max"),
            cel("!self.log || !has(self.min) || self.min > 0.0", "min must be above 0 with log"),
            cel("!self.log || !has(self.step)", "step must not be set with log"),
        )
    )

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="A parameter of the estimator, or `featureSelection.features` or `featureSelection.share`.",
        ),
    ]
    type: Annotated[Literal["Int", "Float", "Choice"], Field(description="What its values are.")]
    min: Annotated[float | None, Field(description="Lowest value.")] = None
    max: Annotated[float | None, Field(description="Highest value.")] = None
    step: Annotated[
        float | None,
        Field(gt=0, description="Distance of the values; on a grid 1 for Int, and 5 points for Float, when not set."),
    ] = None
    log: Annotated[bool, Field(description="Spread the values evenly in the logarithm.")] = False
    values: Annotated[
        tuple[
            Annotated[
                Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True, "maxProperties": 16})
            ],
            ...,
        ],
        Field(max_length=100, description="Values of a Choice."),
    ] = ()


class Candidate(ApiModel):
    """A scikit-learn estimator that may become the model."""

    estimator: EstimatorName
    params: Params = {}
    search: Annotated[
        tuple[SearchParameter, ...],
        Field(
            max_length=20,
            description="Parameters to be tuned, see `tuning`.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()


class ColumnPreprocessing(ApiModel):
    """What is done otherwise with one column."""

    name: Annotated[ColumnName, Field(description="Name of the column.")]
    imputation: Annotated[Imputation | None, Field(description="As in preprocessing.")] = None
    fill_value: Annotated[float | None, Field(description="As in preprocessing.")] = None
    fill_text: Annotated[str | None, Field(max_length=256, description="As in preprocessing.")] = None
    scaling: Annotated[Scaling | None, Field(description="As in preprocessing.")] = None
    transform: Annotated[Transform | None, Field(description="As in preprocessing.")] = None
    encoding: Annotated[Encoding | None, Field(description="As in preprocessing.")] = None
    text: Annotated[TextEncoding | None, Field(description="As in preprocessing.")] = None


class Preprocessing(ApiModel):
    """How columns become numbers; fitted on the training part only."""

    scaling: Annotated[Scaling, Field(description="Auto scales for the estimators that need it.")] = "Auto"
    imputation: Annotated[
        Imputation,
        Field(
            description="Auto fills numbers with the median and categories with the most frequent value. DropRows "
            "leaves rows with missing values out of training."
        ),
    ] = "Auto"
    fill_value: Annotated[float, Field(description="What Constant fills numbers with.")] = 0.0
    fill_text: Annotated[
        str, Field(min_length=1, max_length=256, description="What Constant fills categories with.")
    ] = "missing"
    transform: Annotated[
        Transform, Field(description="Of numbers: Power is Yeo-Johnson, Quantile maps to a normal distribution.")
    ] = "None"
    encoding: Annotated[
        Encoding, Field(description="Of categories; Auto is OneHot, and Target for columns with many of them.")
    ] = "Auto"
    text: Annotated[TextEncoding, Field(description="Of columns of type Text.")] = "TfIdf"
    columns: Annotated[
        tuple[ColumnPreprocessing, ...],
        Field(
            max_length=200,
            description="Columns that are treated otherwise.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()


class FeatureSelection(ApiModel):
    """Which of the preprocessed features the estimator gets."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("!has(self.features) || !has(self.share)", "must set at most one of features and share"),
            cel(
                "!has(self.threshold) || self.method in ['Variance', 'TreeImportance', 'L1']",
                "threshold must be used with Variance, TreeImportance or L1",
            ),
            cel(
                "self.method != 'Variance' || !has(self.features) && !has(self.share)",
                "features and share must not be set with Variance, which goes by its threshold",
            ),
        )
    )

    method: Annotated[
        Literal["Variance", "MutualInformation", "Chi2", "AnovaF", "TreeImportance", "L1", "RFE"],
        Field(description="How features are ranked."),
    ]
    features: Annotated[int | None, Field(ge=1, le=100000, description="How many are kept.")] = None
    share: Annotated[float | None, Field(gt=0, le=1, description="Share that is kept, 0 to 1.")] = None
    threshold: Annotated[float | None, Field(ge=0, description="Lowest variance or importance that is kept.")] = None


class Tuning(ApiModel):
    """How the search spaces of the candidates are searched."""

    method: Annotated[
        Literal["Grid", "Random", "Halving", "TPE"],
        Field(description="Halving gives more rows to fewer parameter sets; TPE learns from the trials so far."),
    ] = "Random"
    trials: Annotated[
        int,
        Field(ge=1, le=10000, description="Parameter sets in all; Halving: of the first round. Grid tries all."),
    ] = 20
    time_limit: Annotated[
        Duration | None, Field(description="No trial begins after it; what is done by then decides.")
    ] = None
    patience: Annotated[
        int | None, Field(ge=1, le=10000, description="Stop after that many trials without a better one.")
    ] = None
    parallelism: Annotated[
        int, Field(ge=1, le=100, description="Worker pods beside the trainer's; 1 keeps the search in its pod.")
    ] = 1


class CrossValidation(ApiModel):
    """How the training part is folded."""

    method: Annotated[
        Literal["Auto", "KFold", "Stratified", "Group", "TimeSeries", "LeaveOneOut"],
        Field(description="Auto follows the split."),
    ] = "Auto"
    repeats: Annotated[int, Field(ge=1, le=50, description="KFold and Stratified: that often, with other seeds.")] = 1


class Explain(ApiModel):
    """What the model card shows beside permutation importance, and what is kept for monitors."""

    shap_rows: Annotated[
        int, Field(ge=0, le=10000, description="Evaluation rows that SHAP values are computed for; 0: none.")
    ] = 0
    partial_dependence: Annotated[
        int, Field(ge=0, le=20, description="Partial dependence of that many of the most important features.")
    ] = 3
    learning_curve: Annotated[bool, Field(description="Quality by number of training rows.")] = True
    reference_rows: Annotated[
        int,
        Field(
            ge=0,
            le=2000,
            description="Rows of the test part, without the target, that are kept with the version for monitors to "
            "compare windows with (MultivariateDrift, AttributionDrift); 0: none.",
        ),
    ] = 2000


class Student(ApiModel):
    """The smaller estimator that learns the answers of the chosen one."""

    estimator: EstimatorName
    params: Params = {}


class Compress(ApiModel):
    """How the model is made smaller and faster, at a bounded loss."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "'Distillation' in self.methods == has(self.student)",
                "student must be set with the method Distillation, and only then",
            ),
        )
    )

    methods: Annotated[
        tuple[Literal["Pruning", "Distillation", "Quantization"], ...],
        Field(
            min_length=1,
            max_length=3,
            description="Pruning: cost-complexity pruning of trees. Distillation: a smaller student learns the "
            "answers. Quantization: INT8, where it holds.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ]
    max_drop: Annotated[
        float, Field(ge=0, description="Loss of the primary metric, in its own unit, up to which a step is accepted.")
    ]
    student: Annotated[Student | None, Field(description="What Distillation trains.")] = None
