"""Builds the next list of conditions from the last one: times move only when a status changes."""

from dataclasses import dataclass, field
from datetime import datetime

from modelloop.api.common import Condition
from modelloop.decide.reasons import ConditionType

MAX_MESSAGE = 2000


@dataclass(slots=True)
class ConditionSet:
    """Collects the conditions of one pass.

    `Reconciling`, `Stalled` and `ApprovalRefused` that aren't set in a pass are gone after it; the other types keep
    their last state.
    """

    previous: tuple[Condition, ...]
    generation: int
    now: datetime
    _next: dict[str, Condition] = field(default_factory=dict)

    def set(self, type_: ConditionType, status: bool | None, reason: str, message: str = "") -> None:
        """State a condition; None is Unknown."""
        old = next((condition for condition in self.previous if condition.type == type_), None)
        text = {True: "True", False: "False", None: "Unknown"}[status]
        since = old.last_transition_time if old is not None and old.status == text else self.now
        self._next[type_] = Condition(
            type=type_,
            status=text,
            reason=str(reason),
            message=message[:MAX_MESSAGE],
            observed_generation=self.generation,
            last_transition_time=since,
        )

    def build(self) -> tuple[Condition, ...]:
        """The conditions after this pass, in a stable order."""
        transient = (
            ConditionType.RECONCILING,
            ConditionType.STALLED,
            ConditionType.APPROVAL_REFUSED,
            ConditionType.FEEDBACK_MISSING,
        )
        kept = {
            condition.type: condition
            for condition in self.previous
            if condition.type not in self._next and condition.type not in transient
        }
        return tuple(sorted((kept | self._next).values(), key=lambda condition: condition.type))


def find_condition(conditions: tuple[Condition, ...], type_: ConditionType) -> Condition | None:
    """The condition of a type, when there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)
