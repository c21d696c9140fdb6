"""Manifests that keep or break the rules on how a model is made: data, columns, search spaces, slices, compression."""

from typing import Any

from tests.cluster.cluster_api import Object
from tests.cluster.cluster_loop import training
from tests.cluster.crd_cases import NAMESPACE, with_value

PLACES = {
    "pvc": "must be pvc://<claim>/<path>",
    "s3": "must be s3://<bucket>/<key>",
    "gs": "must be gs://<bucket>/<key>",
    "az": "must be az://<container>/<path>",
    "https": "must be https://<host>/<path>, with credentials in secretRef",
    "work": "must be work://<path below the work volume's data folder>",
}
SCHEME = "must start with builtin://, pvc://, s3://, gs://, az://, https:// or work://"
ENDING = (
    "uri must end in .csv, .parquet, .jsonl or .ndjson (or the first, third and fourth with .gz), or in / for all such "
    "files below it; or format must say what the files are"
)
SECRET = "secretRef must be used with an s3://, gs://, az:// or https:// uri only"
TARGET = "weight, group and time must not name the target"
BOUNDS = "min must be at most max"
CHOICE = "must set values alone for type Choice, and min and max for Int and Float"


def spec(**fields: Any) -> Object:
    """A good training with fields of its spec replaced; `__` stands for a dot."""
    body = training(NAMESPACE)
    for field, value in fields.items():
        body = with_value(body, field.replace("__", "."), value)
    return body


def data(uri: str, **fields: Any) -> Object:
    """A training on a source."""
    return spec(data={"uri": uri, "target": "y", **fields})


def searched(**parameter: Any) -> Object:
    """A training with a search space of one dimension."""
    return spec(candidates=[{"estimator": "LogisticRegression", "search": [{"name": "C", **parameter}]}])


_DATA, _SPEC = "ModelTraining.spec.data", "ModelTraining.spec"
_SEARCH = f"{_SPEC}.candidates[0].search[0]"

REJECTED: list[tuple[Object, str, str]] = [
    (data("/data/rows.csv"), f"{_DATA}.uri", SCHEME),
    (data("http://example.com/rows.csv"), f"{_DATA}.uri", SCHEME),
    *(
        (data(uri), f"{_DATA}.uri", PLACES[uri.split(":")[0]])
        for uri in (
            "pvc://claim", "pvc://Claim/rows.csv", "s3://bucket", "s3://b/rows.csv", "gs://bucket", "gs://b/rows.csv",
            "az://container", "az://C/rows.csv", "https:///rows.csv", "https://user:key@host/rows.csv",
            "https://host", "work:///rows.csv",
        )
    ),
    *((data(uri), _DATA, ENDING) for uri in ("pvc://claim/rows.xlsx", "s3://bucket/rows.json", "https://host/rows")),
    (data("builtin://iris", secretRef={"name": "s"}), _DATA, SECRET),
    (data("pvc://claim/rows.csv", secretRef={"name": "s"}), _DATA, SECRET),
    *((data("builtin://iris", **{role: "y"}), _DATA, TARGET) for role in ("weight", "group", "time")),
    (
        spec(validation={"columns": [{"name": "age", "min": 2, "max": 1}]}),
        f"{_SPEC}.validation.columns[0]",
        BOUNDS,
    ),
    (
        spec(validation={"columns": [{"name": "age", "maxUnseenShare": 0.1}]}),
        f"{_SPEC}.validation.columns[0]",
        "maxUnseenShare must be used with values",
    ),
    (
        spec(testFraction=0.5, split={"validationFraction": 0.4}),
        _SPEC,
        "testFraction and split.validationFraction must leave at least 0.2 of the rows for training",
    ),
    *(
        (
            spec(slices=[{"name": "old", "column": "age", **bounds}]),
            f"{_SPEC}.slices[0]",
            "must set either values, or min, max or both",
        )
        for bounds in ({}, {"values": ["a"], "min": 1})
    ),
    (
        spec(slices=[{"name": "old", "column": "age", "min": 1, "max": 1}]),
        f"{_SPEC}.slices[0]",
        "min must be below max",
    ),
    (
        spec(gates=[{"metric": "f1", "min": 0.5, "slice": "young"}]),
        _SPEC,
        "slice of a gate must be the name of one of spec.slices",
    ),
    *(
        (searched(**parameter), _SEARCH, CHOICE)
        for parameter in (
            {"type": "Choice", "values": [1], "min": 1}, {"type": "Int", "min": 1}, {"type": "Float", "max": 1},
        )
    ),
    (searched(type="Int", min=2, max=1), _SEARCH, BOUNDS),
    (searched(type="Float", min=0, max=1, log=True), _SEARCH, "min must be above 0 with log"),
    (searched(type="Float", min=1, max=2, log=True, step=0.1), _SEARCH, "step must not be set with log"),
    (
        spec(featureSelection={"method": "RFE", "features": 3, "share": 0.5}),
        f"{_SPEC}.featureSelection",
        "must set at most one of features and share",
    ),
    (
        spec(featureSelection={"method": "RFE", "threshold": 0.5}),
        f"{_SPEC}.featureSelection",
        "threshold must be used with Variance, TreeImportance or L1",
    ),
    (
        spec(featureSelection={"method": "Variance", "features": 3}),
        f"{_SPEC}.featureSelection",
        "features and share must not be set with Variance, which goes by its threshold",
    ),
    *(
        (
            spec(compress=compress),
            f"{_SPEC}.compress",
            "student must be set with the method Distillation, and only then",
        )
        for compress in (
            {"methods": ["Distillation"], "maxDrop": 0.1},
            {"methods": ["Pruning"], "maxDrop": 0.1, "student": {"estimator": "DecisionTreeClassifier"}},
        )
    ),
    (spec(tuning={"timeLimit": "soon"}), f"{_SPEC}.tuning.timeLimit", "must be a duration such as 90s, 15m or 24h"),
]  # fmt: skip

ACCEPTED: list[Object] = [
    *(
        data(uri)
        for uri in (
            "pvc://claim/rows.csv", "pvc://claim/a/b/rows.csv.gz", "pvc://claim/rows.parquet", "pvc://claim/rows.jsonl",
            "pvc://claim/parts/", "s3://bucket/2026-*/*.parquet", "gs://bucket/rows.ndjson.gz",
            "az://container/rows.csv", "https://example.com/rows.csv",
        )
    ),
    data("https://example.com/export?id=7", format="CSV", secretRef={"name": "keys"}),
    data("gs://bucket/rows.csv", secretRef={"name": "keys"}),
    data(
        "builtin://iris",
        weight="w",
        group="g",
        time="t",
        columns=[{"name": "zip", "type": "Category"}, {"name": "day", "type": "Time"}],
    ),
    spec(
        validation={
            "baseline": "None",
            "columns": [{"name": "age", "type": "Number", "min": 0, "max": 120, "maxMissingShare": 0.1},
                        {"name": "country", "values": ["NL", "BE"], "maxUnseenShare": 0.01}],
            "extraColumns": "Fail",
            "minLabelShare": 0.05,
        }
    ),
    spec(split={"method": "Time", "validationFraction": 0.2}, crossValidation={"method": "TimeSeries"}),
    spec(
        slices=[{"name": "old", "column": "age", "min": 60}, {"name": "nl", "column": "country", "values": ["NL"]}],
        gates=[{"metric": "f1", "min": 0.8}, {"metric": "f1", "slice": "old", "min": 0.7}],
    ),
    searched(type="Float", min=0.01, max=100, log=True),
    searched(type="Int", min=1, max=9, step=2),
    searched(type="Choice", values=[1, "a", 0.5, True, [10, 10]]),
    spec(tuning={"method": "TPE", "trials": 50, "timeLimit": "30m", "patience": 10, "parallelism": 4}),
    spec(featureSelection={"method": "L1", "threshold": 0.01}),
    spec(
        compress={
            "methods": ["Distillation", "Quantization"],
            "maxDrop": 0.01,
            "student": {"estimator": "LogisticRegression", "params": {"C": 2}},
        },
        explain={"shapRows": 100, "partialDependence": 0, "learningCurve": False},
    ),
]  # fmt: skip
