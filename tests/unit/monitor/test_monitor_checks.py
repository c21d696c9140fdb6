"""What each check says, with its numbers, and when it says nothing."""

from typing import Any

import numpy as np
import pytest

from modelkit.contract.monitoring import DataQualityConfig, DriftConfig, QualityConfig
from modelkit.data.profile import Histogram, build_profile, count_feature, reference_histogram
from modelkit.evaluate.answers import Answers
from modelkit.monitor.counts import Column
from modelkit.monitor.data_quality import check_data_quality, find_problems
from modelkit.monitor.drift import check_drift, check_prediction_drift, compare_columns
from modelkit.monitor.labels import Labelled
from modelkit.monitor.quality import bootstrap_error, check_quality, drop_p_value, estimate_quality
from modelkit.monitor.wording import fit_status, format_number, format_share

GENERATOR = np.random.default_rng(0)
REFERENCE = GENERATOR.normal(size=500)
DRIFT, QUALITY = DriftConfig(), DataQualityConfig()


def build_column(window: Any, reference: Any = REFERENCE, kind: str = "numeric", name: str = "age") -> Column:
    entry = build_profile({name: np.asarray(reference)}, {name: kind}, np.arange(3.0), None, "Regression", None)[
        "features"
    ][name]
    return Column(name, entry, reference_histogram(entry), count_feature(entry, np.asarray(window)))


def same(rows: int = 200) -> np.ndarray:
    return np.random.default_rng(1).normal(size=rows)


# -- drift --------------------------------------------------------------------------------------------------------


def test_drift_names_the_share_and_the_worst_feature_with_its_numbers() -> None:
    columns = [build_column(same() + 2, name="age"), build_column(same(), name="size")]
    result = check_drift(compare_columns(columns, DRIFT, 50), 2, 200, DRIFT, 50)
    assert result.state == "Breached"
    assert result.message.startswith("1 of 2 features drifted; worst: 'age' PSI ")
    assert result.message.endswith(" > 0.2")
    assert (result.value, result.limit) == (0.5, 0.0)
    assert result.worst[0].name == "age"


def test_a_share_of_features_may_drift_where_the_monitor_allows_it() -> None:
    config = DriftConfig(max_drifted_share=0.5)
    columns = [build_column(same() + 2, name="age"), build_column(same(), name="size")]
    result = check_drift(compare_columns(columns, config, 50), 2, 200, config, 50)
    assert result.state == "OK"
    assert "at most 50 % of the features may drift" in result.message


def test_a_large_distance_that_chance_explains_is_no_drift_and_says_so() -> None:
    config = DriftConfig(max_distance=0.0001)
    drifts = compare_columns([build_column(same(50))], config, 50)
    result = check_drift(drifts, 1, 50, config, 50)
    assert result.state == "OK"
    assert drifts[0].distance == 0 or "which chance explains (p = " in result.message


def test_a_feature_with_too_few_values_is_not_tested() -> None:
    sparse = np.where(np.arange(200) < 10, 5.0, np.nan)
    columns = [build_column(sparse, name="age"), build_column(same(), name="size")]
    drifts = compare_columns(columns, DRIFT, 50)
    assert [drift.name for drift in drifts] == ["size"]
    assert "1 feature with too few values not tested" in check_drift(drifts, 2, 200, DRIFT, 50).message


def test_no_feature_with_enough_values_is_unknown() -> None:
    result = check_drift((), 2, 200, DRIFT, 50)
    assert (result.state, result.message) == ("Unknown", "no feature has 50 values in the window")


@pytest.mark.parametrize(("rows", "found"), [(0, "no rows"), (1, "1 row"), (49, "49 rows")])
def test_too_few_rows_are_unknown_whatever_they_hold(rows: int, found: str) -> None:
    columns = [build_column(np.full(rows, 99.0))]
    drifts = compare_columns(columns, DRIFT, 50)
    problems = find_problems(columns, QUALITY, 50)
    results = [
        check_drift(drifts, 1, rows, DRIFT, 50),
        check_prediction_drift(drifts, rows, 50),
        check_data_quality(problems, None, 1, rows, DataQualityConfig(), 50),
    ]
    assert {result.state for result in results} == {"Unknown"}
    assert {result.message for result in results} == {f"{found} in the window; at least 50 are needed"}


def test_prediction_drift_compares_the_predictions() -> None:
    column = build_column(["0"] * 190 + ["1"] * 10, ["0", "1"] * 100, "categorical", "prediction")
    result = check_prediction_drift(compare_columns([column], DRIFT, 50), 200, 50)
    assert result.state == "Breached"
    assert result.message.startswith("the predictions drifted; worst: 'prediction' PSI ")
    assert result.limit == 0.2


# -- data quality -------------------------------------------------------------------------------------------------


def check_column(column: Column, config: DataQualityConfig = QUALITY) -> Any:
    return check_data_quality(find_problems([column], config, 50), None, 1, column.window.rows, config, 50)


def test_missing_values_above_the_reference_s_are_found() -> None:
    window = np.where(np.arange(200) < 80, np.nan, same())
    result = check_column(build_column(window))
    assert result.state == "Breached"
    assert "worst: 40 % of 'age' missing (0 % in the reference, at most 5 points more allowed)" in result.message
    assert (result.value, result.limit) == (0.4, 0.05)


def test_how_much_more_than_the_reference_is_allowed_is_configured() -> None:
    column = build_column(np.where(np.arange(200) < 40, np.nan, same()))
    assert check_column(column, DataQualityConfig(max_excess=0.19)).state == "Breached"
    result = check_column(column, DataQualityConfig(max_excess=0.205))
    assert (result.state, result.limit) == ("OK", 0.205)
    assert result.message.startswith("none of 1 feature has 20.5 points more missing")


def test_a_column_that_always_had_gaps_may_have_them() -> None:
    reference = np.where(np.arange(500) % 5 < 2, np.nan, REFERENCE)
    window = np.where(np.arange(200) % 5 < 2, np.nan, same())
    result = check_column(build_column(window, reference))
    assert result.state == "OK"
    assert result.message.startswith("none of 1 feature has 5 points more missing")


def test_text_in_a_numeric_column_is_found() -> None:
    window = np.array(["many"] * 30 + [0.1] * 170, dtype=object)
    assert "15 % of 'age' of the wrong type" in check_column(build_column(window)).message


def test_categories_that_the_reference_does_not_have_are_found() -> None:
    column = build_column(["a"] * 150 + ["z"] * 50, ["a"] * 400 + ["b"] * 100, "categorical", "city")
    assert "25 % of 'city' of unknown categories" in check_column(column).message


def test_new_categories_of_a_column_that_always_has_new_ones_are_usual() -> None:
    reference = [f"id-{index}" for index in range(300)]
    column = build_column([f"new-{index}" for index in range(200)], reference, "categorical", "city")
    assert check_column(column).state == "OK"


def test_values_beyond_the_reference_s_range_are_found() -> None:
    window = np.concatenate([same(150), np.full(50, 40.0)])
    assert "25 % of 'age' out of range" in check_column(build_column(window)).message


# -- quality ------------------------------------------------------------------------------------------------------


def build_labelled(right: int, wrong: int, unusable: int = 0) -> Labelled:
    truth = np.arange(right + wrong) % 2
    predictions = np.where(np.arange(right + wrong) < right, truth, 1 - truth)
    return Labelled(Answers("Classification", truth, predictions, None, (0, 1)), unusable)


def judge(
    labelled: Labelled, metric: str = "accuracy", reference: float | None = 0.95, **limits: Any
) -> tuple[str, str]:
    config = QualityConfig(**limits)
    estimate = estimate_quality(labelled, metric, reference, 500, config)
    result = check_quality(labelled, 300, metric, estimate, config)
    return result.state, result.message


def test_a_lost_metric_is_named_with_interval_reference_and_limit() -> None:
    state, message = judge(build_labelled(70, 30))
    assert state == "Breached"
    assert message.startswith("accuracy 0.7 (0.6")
    assert "on 100 labels of 300 rows, 0.95 on the version's own test; drop 0.25 > 0.05 (p < 0.0001)" in message


def test_a_drop_that_may_be_chance_is_not_an_alarm_and_says_so() -> None:
    state, message = judge(build_labelled(31, 4))
    assert state == "OK"
    assert "which may be chance (p = " in message


def test_a_better_metric_is_no_drop() -> None:
    assert judge(build_labelled(100, 0)) == (
        "OK",
        "accuracy 1 (1 to 1) on 100 labels of 300 rows, 0.95 on the version's own test; drop 0 ≤ 0.05",
    )


def test_a_model_that_is_always_wrong_is_breached() -> None:
    assert judge(build_labelled(0, 100))[0] == "Breached"


def test_too_few_labels_are_unknown_and_none_gives_a_hint() -> None:
    assert judge(build_labelled(0, 29)) == ("Unknown", "29 labels in the window; at least 30 are needed")
    assert judge(build_labelled(0, 0))[1] == "no feedback in the window: send true labels to the server's /feedback"


def test_labels_that_fit_no_class_are_counted_out() -> None:
    assert "4 labels of no known class or no number left out" in judge(build_labelled(50, 0, 4))[1]
    assert "; 4 labels of no known class" in judge(build_labelled(5, 0, 4))[1]


def test_one_class_alone_says_nothing_about_f1() -> None:
    truth = np.zeros(100, dtype=np.int64)
    state, message = judge(Labelled(Answers("Classification", truth, truth, None, (0, 1))), "f1")
    assert state == "Unknown"
    assert "at least 3 labels of each class" in message


def test_a_metric_that_the_version_was_not_tested_with_is_unknown() -> None:
    assert judge(build_labelled(50, 50), reference=None)[0] == "Unknown"


def test_lower_is_better_where_it_is() -> None:
    truth = np.random.default_rng(2).normal(size=200)
    worse = Labelled(Answers("Regression", truth, truth + np.where(np.arange(200) % 2 == 0, 2.0, -2.0)))
    better = Labelled(Answers("Regression", truth, truth + np.random.default_rng(3).normal(scale=0.1, size=200)))
    assert judge(worse, "rmse", 1.0) == (
        "Breached",
        "rmse 2 (2 to 2) on 200 labels of 300 rows, 1 on the version's own test; drop 1 > 0.05 (p < 0.0001)",
    )
    assert judge(better, "rmse", 1.0)[0] == "OK"


def test_the_bootstrap_error_of_accuracy_is_the_binomial_one_also_for_many_rows() -> None:
    for right, wrong in ((90, 10), (18_000, 2_000)):
        rows = right + wrong
        error = bootstrap_error(build_labelled(right, wrong).answers, "accuracy")
        assert error == pytest.approx(np.sqrt(0.9 * 0.1 / rows), rel=0.15)


def test_the_drop_test_is_the_score_test_of_two_proportions_when_nothing_is_allowed() -> None:
    rows, value, base_rows, base = 1000, 0.85, 2000, 0.9
    pooled = (rows * value + base_rows * base) / (rows + base_rows)
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / base_rows))
    from scipy.stats import norm

    expected = norm.sf((base - value) / deviation)
    error = float(np.sqrt(value * (1 - value) / rows))
    assert drop_p_value("accuracy", (value, rows), (base, base_rows), error, 0.0) == pytest.approx(expected, rel=0.05)


# -- wording ------------------------------------------------------------------------------------------------------


def test_texts_are_cut_to_what_the_status_takes() -> None:
    columns = [build_column(same() + 3, name="x" * 2000)]
    result = fit_status(check_drift(compare_columns(columns, DRIFT, 50), 1, 200, DRIFT, 50))
    assert len(result.message) == 1024
    assert len(result.worst[0].name) == 256


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0466, "0.0466"), (12.345, "12.3"), (1234.5, "1234"), (1e-7, "1.00e-07")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.004, "0.4 %"), (0.02, "2 %"), (0.333, "33 %"), (1, "100 %")]
)
def test_shares_are_per_cent(share: float, text: str) -> None:
    assert format_share(share) == text


def test_histograms_of_nothing_ask_no_question() -> None:
    entry = build_column(same()).entry
    empty = Histogram(np.zeros(10, dtype=np.int64))
    assert find_problems([Column("age", entry, reference_histogram(entry), empty)], DataQualityConfig(), 50) == ()
