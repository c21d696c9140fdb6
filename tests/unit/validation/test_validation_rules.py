"""Each rule of the data validation gate: what it finds, what it lets pass, and what it says."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.codec import from_plain, to_plain
from modelkit.contract.config import DataConfig
from modelkit.contract.recipe import ExpectedColumnConfig, ValidationConfig
from modelkit.contract.result import Finding
from modelkit.data.column_rules import Baseline
from modelkit.data.dataset import build_dataset
from modelkit.data.description import SourceDescription, column_type, complete_description, describe_source
from modelkit.data.leakage import check_leakage
from modelkit.data.validation import check_labels, count_duplicates, refuse_severe, validate_table
from modelkit.errors import RefusedError

ROWS = 300
DATA = DataConfig(uri="x", display_uri="x", target="y")


def table(seed: int = 0, rows: int = ROWS) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": rng.permutation(10**6)[:rows],
            "size": rng.normal(10, 2, rows),
            "temperature": rng.normal(14, 3, rows),
            "gaps": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "kind": rng.choice(np.array(["a", "b", "c"], object), rows),
            "flag": rng.random(rows) < 0.5,
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 99, rows), unit="D"),
            "y": rng.integers(0, 2, rows),
        }
    )


def baseline(frame: pd.DataFrame) -> Baseline:
    used = set(frame.columns) - {"y"}
    source = complete_description(describe_source(frame, "y"), used, (0, 1), frame["y"].to_numpy())
    return Baseline(name="version 3", source=source)


KNOWN = baseline(table())
MOVED = ["size", "id", "temperature", "gaps", "kind", "flag", "day", "y"]


def check(
    frame: pd.DataFrame,
    validation: ValidationConfig | None = None,
    known: Baseline | None = KNOWN,
    data: DataConfig = DATA,
) -> list[Finding]:
    validation = validation or ValidationConfig()
    return validate_table(frame, describe_source(frame, "y"), data, validation, known)


def said(findings: list[Finding]) -> list[tuple[str, str, bool]]:
    return [(finding.column, finding.rule, finding.severe) for finding in findings]


def expect(**changes: Any) -> ValidationConfig:
    return ValidationConfig(columns=(ExpectedColumnConfig(**changes),))


def _with(column: str, values: Any) -> pd.DataFrame:
    return table(1).assign(**{column: values})


def _blank(column: str, rows: int) -> pd.DataFrame:
    frame = table(1)
    frame[column] = frame[column].astype(object).where(np.arange(ROWS) >= rows, None)
    return frame.infer_objects()


def _mixed(column: str, value: Any, rows: int) -> pd.DataFrame:
    frame = table(1)
    return frame.assign(**{column: frame[column].astype(object).where(np.arange(ROWS) >= rows, value)})


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(1, 10_000), rows=st.integers(200, 900))
def test_data_of_the_same_world_passes(seed: int, rows: int) -> None:
    assert said(check(table(seed, rows))) == []


@pytest.mark.parametrize(
    ("frame", "finding", "text"),
    [
        (table(1).drop(columns="size"), ("size", "MissingColumn", True), "version 3's data had"),
        (table(1).rename(columns={"size": "sizes"}), ("size", "MissingColumn", True), "did you mean 'sizes'?"),
        (_with("new", 1.0), ("new", "ExtraColumn", True), "validation.extraColumns"),
        (table(1)[MOVED], ("size", "ColumnOrder", True), "2 columns"),
        (_mixed("size", "n/a", 3), ("size", "RetypedColumn", True), "several types (3 of 300 rows, first row 1) where"),
        (_with("size", "many"), ("size", "RetypedColumn", True), "(300 of 300 rows"),
        (_with("kind", np.arange(ROWS) % 3), ("kind", "RetypedColumn", True), "version 3's data had text"),
        (_with("day", 5.0), ("day", "RetypedColumn", True), "numbers where version 3's data had times"),
        (_with("flag", np.arange(ROWS) % 3), ("flag", "RetypedColumn", True), "had booleans"),
        (_mixed("kind", 1.5, 3), ("kind", "RetypedColumn", True), "values of several types"),
        (_blank("size", 30), ("size", "MissingValues", True), "30 of 300 rows (10.0%), 0.0% in version 3's data"),
        (_blank("size", 2), ("size", "MissingValues", True), "2 of 300 rows (0.7%), 0.0% in version 3"),
        (_blank("size", 300), ("size", "MissingValues", True), "300 of 300 rows (100.0%)"),
        (_blank("gaps", 150), ("gaps", "MissingValues", True), "maxMissingShare"),
        (_with("size", 4.0), ("size", "ConstantColumn", True), "single value in 300 rows, several in version 3's"),
        (_mixed("kind", "z", 40), ("kind", "UnseenCategories", True), "40 of 300 rows (13.3%); up to 5.0%"),
        (_mixed("kind", "z", 2), ("kind", "UnseenCategories", False), "2 of 300 rows (0.7%)"),
        (
            table(1).assign(size=table(1)["temperature"], temperature=table(1)["size"]),
            ("size", "SwappedColumns", True),
            "columns 'size' and 'temperature' hold what the other held",
        ),
        (table(1).assign(size=table(1)["size"] * 1000), ("size", "OutOfRange", False), "check its unit"),
        (_mixed("id", 5, 30).infer_objects(), ("id", "DuplicateIds", True), "in 29 of 300 rows (9.7%)"),
        (_mixed("id", 5, 3).infer_objects(), ("id", "DuplicateIds", False), "in 2 of 300 rows (0.7%)"),
        (table(1, 149), ("", "TooFewRows", True), "149 rows, less than half of the 300"),
    ],
)  # fmt: skip
def test_a_difference_from_the_champions_data_is_found(
    frame: pd.DataFrame, finding: tuple[str, str, bool], text: str
) -> None:
    found = check(frame, ValidationConfig(extra_columns="Ignore") if "sizes" in frame.columns else None)
    assert said(found) == [finding]
    assert text in found[0].message
    assert None not in (found[0].value, found[0].limit)
    assert check(frame, known=None) == [], "without a baseline nothing is expected"


@pytest.mark.parametrize(
    ("validation", "frame", "finding", "text"),
    [
        (expect(name="colour"), table(1), ("colour", "MissingColumn", True), "validation.columns requires"),
        (expect(name="kinds"), table(1), ("kinds", "MissingColumn", True), "did you mean 'kind'?"),
        (expect(name="size", minimum=0.0, maximum=9.5), table(1), ("size", "OutOfRange", True), "above the max 9.5"),
        (expect(name="size", minimum=11.0), table(1), ("size", "OutOfRange", True), "below the min 11"),
        (expect(name="gaps", max_missing_share=0.1), table(1), ("gaps", "MissingValues", True), "more than 10.0%"),
        (expect(name="kind", values=("a", "b")), table(1), ("kind", "UnseenCategories", True), "add them to values"),
        (
            expect(name="kind", values=("a", "b"), max_unseen_share=0.1),
            table(1),
            ("kind", "UnseenCategories", True),
            "more than 10.0%",
        ),
        (expect(name="size", type="Category"), table(1), ("size", "RetypedColumn", True), "states Category"),
        (expect(name="kind", type="Number"), table(1), ("kind", "RetypedColumn", True), "holds text"),
        (expect(name="day", type="Boolean"), table(1), ("day", "RetypedColumn", True), "holds times"),
        (ValidationConfig(min_rows=301), table(1), ("", "TooFewRows", True), "300 rows, fewer than 301"),
        (
            ValidationConfig(duplicates="Fail", max_duplicate_share=0.05),
            pd.concat([table(1), table(1).head(40)]),
            ("", "DuplicateRows", True),
            "40 of 340 rows (11.8%)",
        ),
        (ValidationConfig(), pd.concat([table(1), table(1).head(1)]), ("", "DuplicateRows", False), "1 of 301 rows"),
    ],
)  # fmt: skip
def test_what_is_stated_is_held_without_a_champion_too(
    validation: ValidationConfig, frame: pd.DataFrame, finding: tuple[str, str, bool], text: str
) -> None:
    found = check(frame.reset_index(drop=True), validation, known=None)
    assert said(found) == [finding]
    assert text in found[0].message


@pytest.mark.parametrize(
    ("validation", "frame"),
    [
        (expect(name="size", minimum=-100.0, maximum=100.0), table(1)),
        (expect(name="kind", values=("a", "b", "c", "z")), _mixed("kind", "z", 40)),
        (expect(name="kind", values=("a", "b", "c"), max_unseen_share=0.2), _mixed("kind", "z", 40)),
        (expect(name="size", max_missing_share=0.5), _blank("size", 100)),
        (expect(name="new", type="Number"), _with("new", 1.0)),
        (expect(name="size", type="Text"), _with("size", "many")),
        (expect(name="id", type="Category"), table(1)),
        (expect(name="flag", type="Boolean"), _with("flag", np.arange(ROWS) % 2)),
        (expect(name="size", required=False), table(1).drop(columns="size")),
        (ValidationConfig(min_rows=10), table(1, 100)),
        (ValidationConfig(extra_columns="Ignore"), _with("new", 1.0)),
        (ValidationConfig(column_order="Ignore"), table(1)[MOVED]),
        (ValidationConfig(duplicates="Ignore", max_duplicate_share=0.0), table(1)),
    ],
)  # fmt: skip
def test_what_is_stated_replaces_what_was(validation: ValidationConfig, frame: pd.DataFrame) -> None:
    assert said(check(frame, validation)) == []


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), more=st.sampled_from([1, 3, 10]))
def test_whole_numbers_that_were_unique_by_luck_are_no_identifiers(seed: int, more: int) -> None:
    rng = np.random.default_rng(seed)

    def cents(rows: int) -> pd.DataFrame:
        return pd.DataFrame({"cents": rng.integers(0, 50_000, rows), "y": rng.integers(0, 2, rows)})

    old = cents(200)
    if old["cents"].is_unique:
        assert [finding for finding in check(cents(200 * more), known=baseline(old)) if finding.severe] == []


def test_a_target_is_no_identifier() -> None:
    old = pd.DataFrame({"x": np.arange(100) / 7, "y": np.arange(100)})
    assert said(check(old.assign(y=np.arange(100) // 2), known=baseline(old))) == []


def test_who_names_the_features_has_said_which_columns_are_meant() -> None:
    data = DataConfig(uri="x", display_uri="x", target="y", features=("size", "new"))
    assert said(check(_with("new", 1.0)[["new", "y", "size"]], data=data)) == []


def test_severities_are_those_that_are_stated() -> None:
    frame = pd.concat([_with("new", 1.0), _with("new", 1.0)], ignore_index=True)[["new", *reversed(table().columns)]]
    for severity in ("Warn", "Fail"):
        found = check(frame, ValidationConfig(extra_columns=severity, column_order=severity, duplicates=severity))
        rules = {rule: severe for _, rule, severe in said(found)}
        wanted = severity == "Fail"
        assert {rule: rules[rule] for rule in ("ExtraColumn", "ColumnOrder", "DuplicateRows")} == {
            "ExtraColumn": wanted,
            "ColumnOrder": wanted,
            "DuplicateRows": wanted,
        }


@settings(deadline=None, max_examples=15)
@given(
    values=st.lists(st.sampled_from([1, 2, 2.5, None]), min_size=2, max_size=30),
    names=st.lists(st.sampled_from(["a", "b", None]), min_size=30, max_size=30),
)
def test_repeated_rows_are_counted_as_pandas_does(values: list[Any], names: list[Any]) -> None:
    frame = pd.DataFrame({"v": pd.array(values, "Float64"), "n": np.array(names[: len(values)], object)})
    assert count_duplicates(frame) == int(frame.duplicated().sum())


@pytest.mark.parametrize("frame", [table(), table().head(2), table().assign(nothing=None, text="x")])
def test_a_description_survives_its_file(frame: pd.DataFrame) -> None:
    source = baseline(frame).source
    text = json.dumps(to_plain(source), allow_nan=False)
    assert from_plain(SourceDescription, json.loads(text)) == source


def test_a_description_names_no_category_of_what_was_not_learnt_from() -> None:
    frame = table().assign(mail=[f"user{number}@example.org" for number in range(ROWS)])
    source = complete_description(describe_source(frame, "y"), {"kind", "mail"}, (0, 1), frame["y"].to_numpy())
    text = json.dumps(to_plain(source))
    assert "example.org" not in text  # like an identifier
    assert '"categories": ["a", "b", "c"]' in text
    unused = complete_description(describe_source(frame, "y"), {"size"}, (0, 1), frame["y"].to_numpy())
    assert '"a"' not in json.dumps(to_plain(unused))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "Number"),
        ([1.5, None], "Number"),
        ([True, False], "Boolean"),
        ([True, None], "Boolean"),
        (["a", None], "Category"),
        (["1", "2"], "Category"),
        (["2026-01-01", "2026-01-02T10:00:00Z"], "Time"),
        ([None, None], "Empty"),
        (["a", 1], "Mixed"),
        (pd.to_datetime(["2026-01-01"]), "Time"),
    ],
)
def test_types_are_told_by_values(values: Any, kind: str) -> None:
    assert column_type(pd.Series(values)) == kind


def test_label_shares_and_shifts() -> None:
    shares = {"0": 0.95, "1": 0.05}
    assert check_labels(shares, ROWS, "y", ValidationConfig(), None) == []
    (rare,) = check_labels(shares, ROWS, "y", ValidationConfig(min_label_share=0.1), None)
    assert (rare.rule, rare.severe, rare.value, rare.limit) == ("LabelShare", True, 0.05, 0.1)
    (told,) = check_labels(shares, ROWS, "y", ValidationConfig(), KNOWN)
    assert (told.rule, told.severe) == ("LabelShift", False)
    (shift,) = check_labels(shares, ROWS, "y", ValidationConfig(max_label_shift=0.2), KNOWN)
    assert (shift.rule, shift.severe, shift.limit) == ("LabelShift", True, 0.2)
    assert check_labels({"0": 0.3, "1": 0.7}, 10, "y", ValidationConfig(), KNOWN) == [], "ten rows prove nothing"
    assert check_labels(shares, ROWS, "other", ValidationConfig(), KNOWN) == [], "another target"


@pytest.mark.parametrize("rows", [400, 5000])
@pytest.mark.parametrize("task", ["Classification", "Regression"])
def test_a_feature_that_tells_the_target_is_found_and_a_good_one_is_not(task: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, rows) if task == "Classification" else rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "leak": y * 2.0 + 1,
            "label": np.array([f"v{value:.0f}" for value in y * (1 if task == "Classification" else 0)], object),
            "good": y + rng.normal(0, 0.8, rows),
            "noise": rng.normal(size=rows),
            "y": y,
        }
    )
    if task == "Regression":
        frame = frame.drop(columns="label")
    dataset = build_dataset(frame, DATA, task)
    found = check_leakage(dataset, ValidationConfig(), 0)
    assert [finding.column for finding in found] == (["leak", "label"] if task == "Classification" else ["leak"])
    assert all(not finding.severe and finding.limit == 0.99 for finding in found)
    assert all(finding.severe for finding in check_leakage(dataset, ValidationConfig(leakage="Fail"), 0))
    assert check_leakage(dataset, ValidationConfig(leakage="Ignore"), 0) == []


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes", "digits"])
def test_honest_data_sets_have_no_leak(name: str) -> None:
    import sklearn.datasets

    frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
    data = DataConfig(uri="x", display_uri="x", target="target")
    dataset = build_dataset(frame, data, "Regression" if name == "diabetes" else "Classification")
    assert check_leakage(dataset, ValidationConfig(), 0) == []


def test_a_refusal_tells_the_first_three_and_carries_all() -> None:
    findings = check(table(1).drop(columns=["size", "gaps", "kind", "flag"]))
    with pytest.raises(RefusedError) as refused:
        refuse_severe(findings)
    assert refused.value.reason == "DataInvalid"
    assert "'size'" in refused.value.message
    assert refused.value.message.endswith("; and 1 more")
    assert refused.value.findings == tuple(findings)
    refuse_severe([finding for finding in findings if not finding.severe])
