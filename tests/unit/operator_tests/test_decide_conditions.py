"""The bookkeeping of conditions."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from modelloop.api.common import Condition
from modelloop.decide.conditions import MAX_MESSAGE, ConditionSet, find_condition
from modelloop.decide.reasons import ConditionType
from tests.unit.operator_tests.operator_states import NOW

LATER = NOW + timedelta(minutes=1)


def stated(
    previous: tuple[Condition, ...], *states: tuple[ConditionType, bool | None, str, str]
) -> tuple[Condition, ...]:
    conditions = ConditionSet(previous, 7, LATER)
    for type_, status, reason, message in states:
        conditions.set(type_, status, reason, message)
    return conditions.build()


def held(type_: str, status: str, message: str = "") -> Condition:
    return Condition(type=type_, status=status, reason="Old", message=message, last_transition_time=NOW)


def test_the_transition_time_stays_when_only_the_words_change() -> None:
    (after,) = stated((held("Ready", "True", "old"),), (ConditionType.READY, True, "New", "new"))
    assert (after.reason, after.message, after.observed_generation) == ("New", "new", 7)
    assert after.last_transition_time == NOW


def test_the_transition_time_moves_with_the_status() -> None:
    for old, new in (("True", False), ("False", None), ("Unknown", True)):
        (after,) = stated((held("Ready", old),), (ConditionType.READY, new, "New", ""))
        assert after.last_transition_time == LATER


def test_reconciling_and_stalled_vanish_when_they_are_not_stated_and_others_stay() -> None:
    previous = (held("Reconciling", "True"), held("Stalled", "True"), held("Ready", "False"), held("Foreign", "True"))
    assert [item.type for item in stated(previous)] == ["Foreign", "Ready"]


def test_a_long_message_is_cut() -> None:
    (after,) = stated((), (ConditionType.READY, False, "Long", "x" * 100_000))
    assert len(after.message) == MAX_MESSAGE


STATES = st.lists(
    st.tuples(
        st.sampled_from(list(ConditionType)),
        st.sampled_from([True, False, None]),
        st.sampled_from(["A", "B"]),
        st.text(max_size=5),
    ),
    max_size=6,
)


@given(first=STATES, second=STATES)
def test_stating_the_same_again_changes_nothing(first: list, second: list) -> None:  # type: ignore[type-arg]
    once = stated(stated((), *first), *second)
    again = stated(once, *second)
    assert again == once
    assert len({item.type for item in once}) == len(once)
    for type_, status, _, _ in second[-1:]:
        found = find_condition(once, type_)
        assert found is not None
        assert found.status == {True: "True", False: "False", None: "Unknown"}[status]
