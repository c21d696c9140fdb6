"""Fifteen ways in which data goes wrong, each through the whole trainer as it runs in a pod, with the defaults.

A good table makes the champion. Then the corrupted one is trained from: no version of it may ever be approved, it must
say what is wrong, and it must end with the exit code that isn't retried. The same table without the corruption is
approved, so that the gate isn't simply shut.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelkit.artifact.model import StoredModel
from modelkit.artifact.version import fetch_version
from modelkit.contract import environment
from modelkit.contract.codec import dumps
from modelkit.contract.config import (
    CandidateConfig,
    ComparisonConfig,
    DataConfig,
    StoreConfig,
    TrainerConfig,
    VersionRef,
)
from modelkit.contract.recipe import ExpectedColumnConfig, ValidationConfig
from modelkit.contract.result import TrainingResult, read_termination_message
from modelkit.store.store import Store
from modelkit.train.__main__ import main
from modelloop.decide.gates import judge

ROWS = 600
COLUMNS = ["customer", "age", "income", "city", "plan", "calls", "churned"]


def good(seed: int, rows: int = ROWS) -> pd.DataFrame:
    """A table of customers: who calls often and pays little leaves."""
    rng = np.random.default_rng(seed)
    age, calls = rng.integers(18, 80, rows), rng.poisson(4, rows)
    income = rng.normal(3000, 600, rows).round(2)
    plan = rng.choice(["basic", "plus", "pro"], rows, p=[0.5, 0.3, 0.2])
    score = 1.2 * (calls - 4) - (income - 3000) / 400 + 1.5 * (plan == "basic") - 0.7
    churned = np.where(score + rng.normal(0, 0.5, rows) > 0, "yes", "no")
    return pd.DataFrame(
        {
            "customer": [f"C-{number:06d}" for number in rng.permutation(900_000)[:rows]],
            "age": age,
            "income": income,
            "city": rng.choice(["Köln", "Zürich", "Paris"], rows),
            "plan": plan,
            "calls": calls,
            "churned": churned,
        }
    )


def _some(frame: pd.DataFrame, share: float) -> Any:
    return np.random.default_rng(9).permutation(len(frame))[: int(share * len(frame))]


def _set(frame: pd.DataFrame, column: str, value: Any, share: float) -> pd.DataFrame:
    values = frame[column].astype(object)
    values.iloc[_some(frame, share)] = value
    return frame.assign(**{column: values})


def _flip(frame: pd.DataFrame) -> pd.DataFrame:
    flipped = frame["churned"].to_numpy(copy=True)
    places = _some(frame, 0.3)
    flipped[places] = np.where(flipped[places] == "yes", "no", "yes")
    return frame.assign(churned=flipped)


def _repeat_ids(frame: pd.DataFrame) -> pd.DataFrame:
    ids = frame["customer"].to_numpy(copy=True)
    ids[_some(frame, 0.1)] = ids[0]
    return frame.assign(customer=ids)


def _csv(frame: pd.DataFrame, **options: Any) -> bytes:
    return str(frame.to_csv(index=False, **options)).encode()


@dataclass(frozen=True)
class Corruption:
    name: str
    spoil: Callable[[pd.DataFrame], bytes]
    reason: str
    texts: tuple[str, ...]
    rule: str | None = None
    """Of the finding; None: what can't be read, or learnt from at all, is refused before."""


CORRUPTIONS = [
    Corruption("empty", lambda frame: _csv(frame.iloc[:0]), "EmptyData", ("0 rows", "nothing to learn")),
    Corruption(
        "NaN",
        lambda frame: _csv(_set(frame, "income", None, 0.2)),
        "DataInvalid",
        ("column 'income' has no value in 120 of 600 rows (20.0%), 0.0% in version 1's data", "maxMissingShare"),
        "MissingValues",
    ),
    Corruption(
        "Inf",
        lambda frame: _csv(_set(frame, "income", "inf", 0.01)),
        "NonFiniteValues",
        ("'income'", "in 6 of 600 rows"),
    ),
    Corruption(
        "one class",
        lambda frame: _csv(frame.assign(churned="no")),
        "SingleClass",
        ("'churned' has a single class in all 600 rows",),
    ),
    Corruption(
        "constant column",
        lambda frame: _csv(frame.assign(calls=3)),
        "DataInvalid",
        ("column 'calls' holds a single value in 600 rows, several in version 1's data", "data.features"),
        "ConstantColumn",
    ),
    Corruption(
        "added column",
        lambda frame: _csv(frame.assign(colour=np.arange(len(frame)) % 7)),
        "DataInvalid",
        ("column 'colour' wasn't in version 1's data", "validation.extraColumns"),
        "ExtraColumn",
    ),
    Corruption(
        "dropped column",
        lambda frame: _csv(frame.drop(columns="plan")),
        "DataInvalid",
        ("column 'plan' isn't there, which version 1's data had", "data.features"),
        "MissingColumn",
    ),
    Corruption(
        "retyped column",
        lambda frame: _csv(_set(frame, "calls", "many", 0.3)),
        "DataInvalid",
        ("column 'calls' holds text (180 of 600 rows, first row ", "where version 1's data had numbers"),
        "RetypedColumn",
    ),
    Corruption(
        "reordered column",
        lambda frame: _csv(frame[["customer", "income", "age", *COLUMNS[3:]]]),
        "DataInvalid",
        ("2 columns are elsewhere than in version 1's data, first 'income'", "validation.columnOrder"),
        "ColumnOrder",
    ),
    Corruption(
        "unseen category",
        lambda frame: _csv(_set(frame, "plan", "gold", 0.15)),
        "DataInvalid",
        ("column 'plan' holds categories that version 1's data doesn't have in 90 of 600 rows (15.0%)",),
        "UnseenCategories",
    ),
    Corruption(
        "truncated file",
        lambda frame: _csv(frame)[: int(0.7 * len(_csv(frame)))],
        "DataUnreadable",
        ("its last line has 3 of 7 values", "cut off"),
    ),
    Corruption(
        "wrong delimiter", lambda frame: _csv(frame, sep=";"), "DataUnreadable", ("';'", "commas between the values")
    ),
    Corruption(
        "wrong encoding",
        lambda frame: _csv(frame).decode().encode("latin-1"),
        "DataUnreadable",
        ("isn't UTF-8", "convert it to UTF-8"),
    ),
    Corruption(
        "30 % flipped labels",
        lambda frame: _csv(_flip(frame)),
        "DataInvalid",
        ("the labels of 'churned' are hardly found any more", "version 1", "validation.labelNoise"),
        "LabelNoise",
    ),
    Corruption(
        "duplicate ids",
        lambda frame: _csv(_repeat_ids(frame)),
        "DataInvalid",
        ("column 'customer' holds a value that is there already in ", "as in an identifier"),
        "DuplicateIds",
    ),
]  # fmt: skip


VALUES = {str(value) for name in ("customer", "income", "city") for value in good(1)[name]} | {"gold", "many"}


@dataclass(frozen=True)
class Loop:
    """Trainings of one name, one after the other, on one store."""

    folder: Path

    def config(self, content: bytes, number: int, champion: VersionRef | None = None, **changes: Any) -> TrainerConfig:
        name = "t.csv.gz" if content[:2] == b"\x1f\x8b" else "t.csv"
        (self.folder / name).write_bytes(content)
        plain = TrainerConfig(
            namespace="default",
            name="churn",
            number=number,
            version=f"{number}-abc",
            trigger="Created",
            store=StoreConfig(uri=f"file://{self.folder}/store"),
            data=DataConfig(uri=f"file://{self.folder}/{name}", display_uri=f"pvc://lake/{name}", target="churned"),
            candidates=(CandidateConfig(estimator="LogisticRegression"),),
            folds=3,
            comparisons=(ComparisonConfig(metric="f1"),) if champion else (),
            champion=champion,
            validation=ValidationConfig(),
        )
        return replace(plain, **changes)

    def run(self, config: TrainerConfig) -> tuple[int, TrainingResult]:
        log = self.folder / "log"
        code = main({"MODELLOOP_CONFIG": dumps(config), "MODELLOOP_TERMINATION_LOG": str(log)})
        return code, read_termination_message(log.read_bytes())

    def train(self, content: bytes, number: int, champion: VersionRef | None = None, **changes: Any) -> VersionRef:
        code, result = self.run(self.config(content, number, champion, **changes))
        assert code == 0, result.message
        assert judge(result, ()).verdict == "Approved"
        assert result.path is not None
        assert result.digest is not None
        return VersionRef(number=number, path=result.path, digest=result.digest)

    @property
    def store(self) -> Store:
        return Store.open(StoreConfig(uri=f"file://{self.folder}/store"), {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, VersionRef]:
    """The loop with a champion of good data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "METRICS_PORT", 0)
        loop = Loop(tmp_path_factory.mktemp("loop"))
        return loop, loop.train(_csv(good(0)), 1)


@pytest.fixture(autouse=True)
def _any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "METRICS_PORT", 0)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_a_corrupted_table_is_never_promoted_says_why_and_is_not_tried_again(
    trained: tuple[Loop, VersionRef], corruption: Corruption, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, champion = trained
    before = sorted(entry.path for entry in loop.store.list())
    code, result = loop.run(loop.config(corruption.spoil(good(1)), 2, champion))
    assert (code, result.outcome, result.reason) == (2, "Failed", corruption.reason), result.message
    for text in corruption.texts:
        assert text in (result.message or "")
    if corruption.rule is not None:
        severe = [finding for finding in result.findings if finding.severe]
        assert severe[0].rule == corruption.rule
        assert severe[0].message in (result.message or "")
    said = dumps(result) + capsys.readouterr().err
    assert [value for value in VALUES if value in said] == [], "a value of the data was quoted"
    assert result.digest is None
    assert sorted(entry.path for entry in loop.store.list()) == before, "nothing is left of a refused run"


def test_there_are_fifteen_of_them() -> None:
    assert len({corruption.name for corruption in CORRUPTIONS}) == 15


def test_good_data_of_another_day_is_approved(trained: tuple[Loop, VersionRef]) -> None:
    loop, champion = trained
    code, result = loop.run(loop.config(_csv(good(1)), 3, champion))
    assert code == 0, result.message
    assert [finding for finding in result.findings if finding.severe] == []
    assert result.champion is not None


def test_a_world_that_changed_is_learnt_anew(trained: tuple[Loop, VersionRef]) -> None:
    loop, champion = trained
    frame = good(2)
    turned = frame.assign(churned=np.where(frame["churned"] == "yes", "no", "yes"))  # every label: nothing is noise
    loop.train(_csv(turned), 4, champion)


@pytest.mark.parametrize(
    ("number", "spoil", "consent"),
    [
        (10, lambda frame: frame.assign(colour=np.arange(len(frame)) % 7), {"extra_columns": "Ignore"}),
        (11, lambda frame: frame[["customer", "income", "age", *COLUMNS[3:]]], {"column_order": "Ignore"}),
        (
            12,
            lambda frame: _set(frame, "plan", "gold", 0.15),
            {"columns": (ExpectedColumnConfig(name="plan", values=("basic", "plus", "pro", "gold")),)},
        ),
        (13, lambda frame: frame.iloc[:200], {"min_rows": 100}),
        (14, lambda frame: frame.drop(columns="age"), {"baseline": "None"}),
    ],
    ids=["added", "reordered", "new category", "fewer rows", "dropped"],
)
def test_a_change_that_is_meant_needs_one_word(
    trained: tuple[Loop, VersionRef], number: int, spoil: Any, consent: dict[str, Any]
) -> None:
    loop, champion = trained
    content = _csv(spoil(good(1)))
    assert loop.run(loop.config(content, 5, champion))[1].reason == "DataInvalid"
    code, result = loop.run(loop.config(content, number, champion, validation=ValidationConfig(**consent)))
    assert code == 0, result.message


def test_named_features_make_order_and_further_columns_harmless(trained: tuple[Loop, VersionRef]) -> None:
    loop, champion = trained
    names = ("age", "income", "city", "plan", "calls")
    plain = loop.config(_csv(good(1)), 20, champion)
    named = replace(plain, data=replace(plain.data, features=names))
    first = loop.run(named)[1]
    frame = good(1).assign(colour=1.5)[["colour", "calls", *COLUMNS[:5], "churned"]]
    moved = replace(loop.config(_csv(frame), 21, champion), data=named.data)
    second = loop.run(moved)[1]
    assert first.metrics == second.metrics
    answers = []
    for number, result in ((20, first), (21, second)):
        ref = VersionRef(number=number, path=result.path or "", digest=result.digest or "")
        model = StoredModel.open(fetch_version(loop.store, ref, loop.folder / str(number)))
        rows = good(3)[list(names)].astype(object).to_numpy()
        answers.append(model.answer(rows)[0].tolist())
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda frame: gzip.compress(_csv(frame), mtime=0)[:-2000], "DataUnreadable"),
        (lambda frame: _csv(frame).decode().encode("utf-16"), "DataUnreadable"),
        (lambda frame: _csv(frame.iloc[:250]), "DataInvalid"),
        (lambda frame: _csv(frame)[:0], "EmptyData"),
        (lambda frame: _csv(frame, sep="\t"), "DataUnreadable"),
        (lambda frame: _csv(frame.assign(income=np.nan)), "DataInvalid"),
        (lambda frame: _csv(frame.drop(columns="churned")), "ColumnNotFound"),
    ],
    ids=["cut gzip", "UTF-16", "cut between rows", "nothing", "tabs", "empty column", "no target"],
)
def test_their_relatives_are_refused_too(trained: tuple[Loop, VersionRef], content: Any, reason: str) -> None:
    loop, champion = trained
    code, result = loop.run(loop.config(content(good(1)), 6, champion))
    assert (code, result.reason) == (2, reason), result.message
