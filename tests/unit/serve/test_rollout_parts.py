"""The parts of sharing that need no server: choosing, sparing, remembering, reading the route."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from math import floor, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.contract.codec import dumps
from modelkit.contract.route import PeerConfig, RouteConfig, RuleConfig
from modelkit.serve.feedback import Label
from modelkit.serve.model import Answer
from modelkit.serve.rollout.breaker import MAX_FAILURES, RETRY_SECONDS, Breaker
from modelkit.serve.rollout.choice import Chooser, Diffusion, is_in_share
from modelkit.serve.rollout.label_relay import render_labels
from modelkit.serve.rollout.labels import LabelTally, Memory
from modelkit.serve.rollout.pairs import Pairs, Scale
from modelkit.serve.rollout.predictions import (
    MAX_BYTES,
    Predictions,
    parse_predictions,
    read_answer,
    render_predictions,
)
from modelkit.serve.rollout.route_file import RouteFile
from modelkit.serve.rollout.rules import parse_place

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HUNDREDTHS = st.integers(0, 10_000).map(lambda count: count / 100)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(HUNDREDTHS, st.integers(1, 500))
def test_of_n_requests_exactly_the_share_is_chosen(percent: float, count: int) -> None:
    diffusion = Diffusion(percent)
    chosen = 0
    for n in range(1, count + 1):
        chosen += diffusion.take()
        assert chosen == floor(n * round(percent * 100) / 10_000 + 1e-9)


@given(HUNDREDTHS, HUNDREDTHS, st.integers(1, 300))
def test_compared_requests_are_a_share_of_what_each_version_answers(weight: float, compare: float, count: int) -> None:
    chooser = Chooser(RuleConfig(other="b", weight=weight, compare=compare))
    choices = [chooser.choose(None) for _ in range(count)]
    for is_routed in (False, True):
        found = [choice.is_compared for choice in choices if choice.is_routed == is_routed]
        assert sum(found) == floor(len(found) * round(compare * 100) / 10_000 + 1e-9)


@given(st.text(min_size=1), HUNDREDTHS, HUNDREDTHS)
def test_who_belongs_to_a_share_belongs_to_larger_ones(key: str, one: float, two: float) -> None:
    less, more = sorted((one, two))
    assert is_in_share(key, "b", less) <= is_in_share(key, "b", more)
    assert not is_in_share(key, "b", 0)
    assert is_in_share(key, "b", 100)


@given(st.lists(st.text(min_size=1), min_size=1), HUNDREDTHS)
def test_two_pods_choose_the_same_for_a_key(keys: list[str], weight: float) -> None:
    rule = RuleConfig(other="b", weight=weight)
    one, two = Chooser(rule), Chooser(rule)
    for _ in range(7):
        two.choose(None)
    assert [one.choose(key).is_routed for key in keys] == [two.choose(key).is_routed for key in keys]


def test_keys_are_spread_as_the_weight_says_and_otherwise_for_another_version() -> None:
    keys = [f"user-{number}" for number in range(20_000)]
    first = {key for key in keys if is_in_share(key, "sha256:b", 20)}
    second = {key for key in keys if is_in_share(key, "sha256:c", 20)}
    assert abs(len(first) - 4000) < 250
    assert abs(len(first & second) - 800) < 150


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_failures_in_a_row_one_request_a_second_is_let_through() -> None:
    clock = Clock()
    breaker = Breaker(10, clock)
    for _ in range(MAX_FAILURES):
        assert breaker.enter()
        breaker.leave(False)
    assert not breaker.enter()
    clock.now += RETRY_SECONDS
    assert breaker.enter()
    assert not breaker.enter()
    breaker.leave(False)
    clock.now += RETRY_SECONDS
    assert breaker.enter()
    breaker.leave(True)
    assert all(breaker.enter() for _ in range(10))


def test_failures_that_are_not_in_a_row_stop_nothing() -> None:
    breaker = Breaker(10, Clock())
    for turn in range(50):
        assert breaker.enter()
        breaker.leave(turn % MAX_FAILURES != 0)
    for _ in range(50):
        assert breaker.enter()
        breaker.leave(None)


def test_copies_leave_places_for_answers() -> None:
    breaker = Breaker(4, Clock())
    assert [breaker.enter(is_copy=True) for _ in range(3)] == [True, True, False]
    assert [breaker.enter() for _ in range(3)] == [True, True, False]
    assert breaker.in_flight == 4


def label(name: str, row: int = 0, value: Any = 1) -> Label:
    return Label(name, row, value, NOW)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=60))
def test_what_is_remembered_is_bounded(requests: list[tuple[int, int]]) -> None:
    memory = Memory(max_rows=20)
    for name, rows in requests:
        memory.add(str(name), [1] * rows, [0] * rows)
        assert memory.rows <= 20
    kept = len(memory)
    if requests:
        newest = str(requests[-1][0])
        assert memory.join([label(newest)], LabelTally(is_classification=True))[0] == 1
        assert 0 < kept <= len(dict(requests))


def test_bytes_are_bounded_too_and_a_giant_is_not_remembered() -> None:
    memory = Memory(max_bytes=10_000)
    memory.add("giant", ["x" * 20_000], ["x"])
    for name in range(100):
        memory.add(str(name), ["x" * 1000], ["y"])
    assert 1 < len(memory) < 10
    assert memory.join([label("99", value="y")], LabelTally(is_classification=True))[0] == 1


def test_a_labels_row_counts_once_and_unknown_requests_are_told() -> None:
    memory, tally = Memory(), LabelTally(is_classification=True)
    memory.add("a", [1, 0], [1, 1])
    joined, unknown = memory.join([label("a"), label("a"), label("a", 1), label("a", 7), label("b")], tally)
    assert (joined, [found.id for found in unknown]) == (2, ["b"])
    assert tally.report().other_wins == 1


def test_labels_are_passed_on_as_feedback_is_sent() -> None:
    found = json.loads(render_labels([label("a", 2, "x"), label("b"), label("a", 0, "y"), label("a", 0, "z")]))
    assert found == [{"id": "a", "label": ["y", None, "x"]}, {"id": "b", "label": [1]}]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30), st.none() | st.floats(1e-300, 1e300))
def test_sums_over_any_numbers_are_finite(rows: list[tuple[float, float]], deviation: float | None) -> None:
    pairs = Pairs(Scale(None, (0.0, 1.0), deviation))
    tally = LabelTally(is_classification=False)
    for own, other in rows:
        pairs.add(Predictions([own]), Predictions([other]))
        tally.add(own, other, other)
    report = pairs.report()
    assert isfinite(report.shift_sum)
    assert isfinite(report.shift_squares)
    assert sum(report.own_counts.values()) == len(rows)
    dumps(report), dumps(tally.report())


def test_the_largest_numbers_there_are_leave_sums_finite() -> None:
    pairs = Pairs(Scale(None))
    for own, other in ((1e308, -1e308), (-1e308, 1e308), (1e308, 1e308), (0.0, 5e-324)):
        pairs.add(Predictions([own]), Predictions([other]))
    report = pairs.report()
    assert isfinite(report.shift_sum)
    assert isfinite(report.shift_squares)
    assert report.disagreements == 2


@pytest.mark.parametrize("other", [[float("nan")], [None], ["1"], [True], [float("inf")], [1.0, 2.0], []])
def test_what_is_no_number_is_not_compared(other: list[Any]) -> None:
    pairs = Pairs(Scale(None))
    with pytest.raises(ValueError, match=r"must predict|different numbers"):
        pairs.add(Predictions([1.0]), Predictions(other))
    assert pairs.report().requests == pairs.report().rows == 0


def test_classes_that_only_the_other_version_knows_are_counted_together() -> None:
    pairs = Pairs(Scale(("a", "b")))
    pairs.add(Predictions(["a", "b", "a"]), Predictions(["a", "c", 7]))
    report = pairs.report()
    assert (report.disagreements, report.own_counts) == (2, {"a": 2, "b": 1})
    assert report.other_counts == {"a": 1, "other": 2}


@given(
    st.lists(st.text() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS, min_size=1, max_size=20), st.booleans()
)
def test_predictions_come_back_from_a_header(values: list[Any], has_scores: bool) -> None:
    shares = np.linspace(0, 1, len(values))
    probabilities = np.stack([1 - shares, shares], axis=1) if has_scores else None
    found = read_answer(Answer(values, probabilities))
    text = render_predictions(found)
    if text is None:
        return
    assert len(text) <= MAX_BYTES
    assert all(32 <= byte < 127 for byte in text)
    back = parse_predictions(text, len(values))
    assert [*map(repr, back.values)] == [*map(repr, values)]
    assert back.scores == (pytest.approx(shares.tolist(), abs=1e-6) if has_scores else None)


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["p", "s", "x"]), inner, max_size=3)
        ),
    ).map(lambda plain: json.dumps(plain).encode())
)
def test_any_bytes_are_predictions_or_a_value_error(text: bytes) -> None:
    try:
        found = parse_predictions(text, 1)
    except ValueError:
        return
    assert len(found.values) == 1


@pytest.mark.parametrize(
    ("address", "place"), [("a:1", ("a", 1)), ("10.0.0.7:8080", ("10.0.0.7", 8080)), ("[::1]:8080", ("::1", 8080))]
)
def test_a_place_is_a_host_and_a_port(address: str, place: tuple[str, int]) -> None:
    assert parse_place(address) == place


@pytest.mark.parametrize(
    "address", ["", "a", ":1", "a:", "a:0", "a:65536", "a:x", "::1:80", "http://a:1", "a b:1", "a/:1"]
)
def test_anything_else_is_none(address: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_place(address)


CONFIG = RouteConfig(
    revision="1",
    measurement="m",
    peers={"b": PeerConfig(number=4, http="b:8080", grpc="b:8081")},
    rules={"a": RuleConfig(other="b", weight=10)},
)


def swap(folder: Path, text: str, turn: int) -> None:
    data = folder / f"..{turn}"
    data.mkdir()
    (data / "route.json").write_text(text)
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").rename(folder / "..data")
    if turn == 0:
        (folder / "route.json").symlink_to("..data/route.json")


def test_a_route_is_followed_through_the_kubelets_links(tmp_path: Path) -> None:
    file = RouteFile(tmp_path / "route.json", frozenset())
    assert not file.refresh()
    seen = []
    for turn, revision in enumerate(("1", "2", "3")):
        swap(tmp_path, dumps(replace(CONFIG, revision=revision)), turn)
        assert file.refresh()
        assert not file.refresh()
        seen.append(file.found.config.revision if file.found.config else "")
    assert seen == ["1", "2", "3"]
    (tmp_path / "..data").unlink()
    assert file.refresh()
    assert (file.found.config, file.found.problem) == (None, "")


def test_a_folder_that_is_not_there_an_empty_file_and_a_folder_as_file(tmp_path: Path) -> None:
    assert not RouteFile(tmp_path / "none" / "route.json", frozenset()).refresh()
    (tmp_path / "route.json").write_text("\n")
    assert not RouteFile(tmp_path / "route.json", frozenset()).refresh()
    folder = RouteFile(tmp_path, frozenset())
    assert folder.refresh()
    assert "can't be read" in folder.found.problem


def test_a_problem_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "route.json"
    file = RouteFile(path, frozenset())
    for turn in range(5):
        path.write_text(dumps(replace(CONFIG, rules={"a": RuleConfig(other="c")})))
        os.utime(path, ns=(turn, turn))
        file.refresh()
    assert "isn't one of the peers" in file.found.problem
    assert len(caplog.records) == 1


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_route_or_a_problem(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    file = RouteFile(path, frozenset())
    file.refresh()
    assert file.found.config is None
