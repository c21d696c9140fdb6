"""What the spec says of a model's making arrives at the trainer in the contract's words."""

from typing import Any

import pytest

from modelkit.contract.codec import to_plain
from modelkit.contract.config import ComparisonConfig, PreprocessingConfig
from modelkit.contract.recipe import (
    ColumnPreprocessingConfig,
    CompressConfig,
    CrossValidationConfig,
    ExpectedColumnConfig,
    ExplainConfig,
    SearchParameterConfig,
    SelectionConfig,
    SliceConfig,
    SplitConfig,
    TuningConfig,
    ValidationConfig,
)
from modelloop.api.data import ExpectedColumn, Slice, Split, Validation
from modelloop.api.modelling import (
    ColumnPreprocessing,
    Compress,
    CrossValidation,
    Explain,
    FeatureSelection,
    Preprocessing,
    SearchParameter,
    Tuning,
)
from modelloop.desired.recipe import build_recipe
from modelloop.desired.training import find_spec_problem
from tests.unit.operator_tests.operator_states import training_spec


def recipe(**fields: Any) -> dict[str, Any]:
    """The recipe of the base spec with fields replaced."""
    return build_recipe(training_spec(**fields))


def test_a_small_spec_asks_for_nothing_that_it_does_not_say() -> None:
    built = recipe()
    for part in ("split", "cross_validation", "selection", "tuning", "compress"):
        assert built[part] is None, part
    assert built["slices"] == ()
    assert (built["validation"], built["explain"]) == (ValidationConfig(), ExplainConfig())
    assert built["preprocessing"] == PreprocessingConfig()


@pytest.mark.parametrize(
    ("api", "contract"),
    [
        (Validation(), ValidationConfig()),
        (Split(), SplitConfig()),
        (CrossValidation(), CrossValidationConfig()),
        (Explain(), ExplainConfig()),
        (Preprocessing(), PreprocessingConfig()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_defaults_of_the_api_are_those_of_the_contract(api: Any, contract: Any) -> None:
    assert to_plain(api.model_dump(exclude_none=True)) == to_plain(contract)


def test_the_defaults_of_tuning_are_those_of_the_contract() -> None:
    search = [{"name": "C", "type": "Choice", "values": [1]}]
    built = recipe(candidates=[{"estimator": "LogisticRegression", "search": search}])
    assert built["tuning"] == TuningConfig()


@pytest.mark.parametrize(
    ("uri", "inside"),
    [
        ("builtin://iris", "builtin://iris"),
        ("s3://bucket/a/", "s3://bucket/a/"),
        ("pvc://claim/a/rows.csv", "file:///var/lib/modelloop/data/claim/a/rows.csv"),
        ("work://a/rows.parquet", "file:///var/lib/modelloop/work/data/a/rows.parquet"),
    ],
)
def test_an_address_is_what_the_pod_sees(uri: str, inside: str) -> None:
    data = recipe(data={"uri": uri, "target": "y"})["data"]
    assert (data.uri, data.display_uri) == (inside, uri)


def test_roles_and_types_of_columns_arrive() -> None:
    columns = [{"name": "zip", "type": "Category"}]
    source = {"uri": "s3://b/x", "target": "y", "weight": "w", "group": "g", "time": "t", "format": "CSV"}
    data = recipe(data=source | {"columns": columns})["data"]
    assert (data.weight, data.group, data.time, data.format) == ("w", "g", "t", "CSV")
    assert to_plain(data.columns) == columns


def test_a_search_space_arrives_with_its_types() -> None:
    search = [
        {"name": "C", "type": "Float", "min": 0.1, "max": 10, "log": True},
        {"name": "max_iter", "type": "Int", "min": 10, "max": 100, "step": 10},
        {"name": "penalty", "type": "Choice", "values": ["l1", "l2", None]},
    ]
    built = recipe(
        candidates=[{"estimator": "LogisticRegression", "search": search}],
        tuning={"method": "TPE", "trials": 7, "timeLimit": "1h30m", "patience": 3, "parallelism": 2},
    )
    assert built["candidates"][0].search == (
        SearchParameterConfig(name="C", type="Float", minimum=0.1, maximum=10.0, log=True),
        SearchParameterConfig(name="max_iter", type="Int", minimum=10.0, maximum=100.0, step=10.0),
        SearchParameterConfig(name="penalty", type="Choice", values=("l1", "l2", None)),
    )
    assert built["tuning"] == TuningConfig(method="TPE", trials=7, time_limit_seconds=5400.0, patience=3, parallelism=2)


def test_expectations_arrive() -> None:
    columns = [{"name": "age", "type": "Number", "min": 0, "max": 120, "maxMissingShare": 0.1, "required": False}]
    built = recipe(validation={"baseline": "None", "columns": columns, "minRows": 10})
    expected = ExpectedColumnConfig(
        name="age", type="Number", minimum=0.0, maximum=120.0, max_missing_share=0.1, required=False
    )
    assert built["validation"] == ValidationConfig(baseline="None", columns=(expected,), min_rows=10)


def test_a_slice_tells_the_metrics_that_its_own_gates_ask_for() -> None:
    built = recipe(
        slices=[{"name": "old", "column": "age", "min": 60}, {"name": "nl", "column": "country", "values": ["NL"]}],
        gates=[
            {"metric": "f1", "min": 0.9},
            {"metric": "recall", "slice": "old", "min": 0.5},
            {"metric": "f1", "slice": "old", "maxDrop": 0.1, "confidence": 0.9},
        ],
    )
    assert built["slices"] == (
        SliceConfig(name="old", column="age", minimum=60.0, metrics=("recall", "f1")),
        SliceConfig(name="nl", column="country", values=("NL",)),
    )
    assert built["comparisons"] == (
        ComparisonConfig(metric="f1"),
        ComparisonConfig(metric="f1", slice="old", confidence=0.9),
    )


def test_the_primary_metric_is_never_that_of_a_slice() -> None:
    slices = [{"name": "old", "column": "age", "min": 60}]
    built = recipe(slices=slices, gates=[{"metric": "recall", "slice": "old", "min": 0.5}])
    assert built["metric"] == "f1"


def test_selection_and_compression_arrive() -> None:
    built = recipe(
        featureSelection={"method": "RFE", "features": 5},
        compress={"methods": ["Distillation"], "maxDrop": 0.02, "student": {"estimator": "Ridge", "params": {"a": 1}}},
    )
    assert to_plain(built["selection"]) == {"method": "RFE", "features": 5}
    assert to_plain(built["compress"]) == {
        "methods": ["Distillation"],
        "max_drop": 0.02,
        "student": {"estimator": "Ridge", "params": {"a": 1}},
    }


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "C", "type": "Choice"}, "'C' is of type Choice and has 0 values"),
        ({"name": "C", "type": "Int", "min": 1, "max": 2, "values": [1]}, "'C' is of type Int and has 1 values"),
    ],
)
def test_values_that_do_not_fit_their_type_are_told_without_a_pod(entry: dict[str, Any], problem: str) -> None:
    spec = training_spec(candidates=[{"estimator": "LogisticRegression", "search": [entry]}])
    assert problem in find_spec_problem(spec)


def test_every_part_of_the_api_has_a_field_in_the_contract() -> None:
    renamed = {"min": "minimum", "max": "maximum", "time_limit": "time_limit_seconds"}
    pairs: list[tuple[Any, Any, set[str]]] = [
        (Validation, ValidationConfig, set()),
        (ExpectedColumn, ExpectedColumnConfig, set()),
        (Split, SplitConfig, set()),
        (CrossValidation, CrossValidationConfig, set()),
        (Tuning, TuningConfig, set()),
        (SearchParameter, SearchParameterConfig, set()),
        (Slice, SliceConfig, {"metrics"}),
        (Explain, ExplainConfig, set()),
        (Preprocessing, PreprocessingConfig, set()),
        (ColumnPreprocessing, ColumnPreprocessingConfig, set()),
        (FeatureSelection, SelectionConfig, set()),
        (Compress, CompressConfig, set()),
    ]
    for api, contract, more in pairs:
        fields = {renamed.get(name, name) for name in api.model_fields}
        assert fields | more == set(contract.__dataclass_fields__), api.__name__
