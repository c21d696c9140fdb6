"""The versions of a ModelDeployment that are in play, and how a rollout of one begins, pauses and ends. Pure values."""

from dataclasses import dataclass, replace
from datetime import datetime

from modelloop.api.deployment import (
    FailedVersion,
    ModelDeploymentStatus,
    ServedVersion,
)
from modelloop.api.rollout import HandledAnnotation, PauseReason, Result, RolloutRecord, RolloutStatus, State
from modelloop.decide.plan import Event
from modelloop.decide.reasons import Reason

FAILED_LIMIT = 10
HISTORY_LIMIT = 10
_MAX_MESSAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """The part of the status that a rollout changes, and what is to be told of it."""

    stable: ServedVersion | None
    candidate: ServedVersion | None
    previous: ServedVersion | None
    rollout: RolloutStatus | None
    failed: tuple[FailedVersion, ...]
    history: tuple[RolloutRecord, ...]
    handled: tuple[HandledAnnotation, ...]
    events: tuple[Event, ...] = ()

    @classmethod
    def of(cls, status: ModelDeploymentStatus) -> "Play":
        """What a status says."""
        return cls(
            stable=status.stable,
            candidate=status.candidate,
            previous=status.previous,
            rollout=status.rollout,
            failed=status.failed,
            history=status.history,
            handled=status.handled,
        )

    def write(self, status: ModelDeploymentStatus) -> ModelDeploymentStatus:
        """`status` with these versions."""
        return status.model_copy(
            update={
                "stable": self.stable,
                "candidate": self.candidate,
                "previous": self.previous,
                "rollout": self.rollout,
                "failed": self.failed,
                "history": self.history,
                "handled": self.handled,
            }
        )

    def tell(self, reason: Reason, message: str, *, warning: bool = False) -> "Play":
        """With one more event."""
        return replace(self, events=(*self.events, Event(reason=reason, message=message, warning=warning)))

    def in_state(self, state: State, now: datetime, **fields: object) -> "Play":
        """With the rollout in another state, which begins now."""
        assert self.rollout is not None, "only a rollout has a state"
        begin = {
            "state": state,
            "since": now,
            "asked_time": None,
            "paused": None,
            "paused_state": None,
            "pause_time": None,
        }
        return replace(self, rollout=self.rollout.model_copy(update=begin | fields))

    def with_rollout(self, **fields: object) -> "Play":
        """With other fields of the rollout."""
        assert self.rollout is not None, "only a rollout has fields"
        return replace(self, rollout=self.rollout.model_copy(update=fields))

    def paused(self, reason: PauseReason, message: str, now: datetime, **fields: object) -> "Play":
        """With the rollout at rest. Its step isn't over, and goes on counting from where it began."""
        assert self.rollout is not None, "only a rollout is paused"
        update = {
            "state": "Paused",
            "paused": reason,
            "paused_state": self.rollout.state if self.rollout.state != "Paused" else self.rollout.paused_state,
            "pause_time": now,
            "message": message[:_MAX_MESSAGE],
        }
        paused = replace(self, rollout=self.rollout.model_copy(update=update | fields))
        return paused.tell(Reason.PAUSED, f"version {self.rollout.number}: {message}", warning=reason != "Manual")

    def recorded(self, version: ServedVersion, result: Result, reason: str, message: str, now: datetime) -> "Play":
        """With a record of how a rollout ended, and without the rollout."""
        rollout = self.rollout
        record = RolloutRecord(
            **version.version_fields(),
            result=result,
            reason=reason[:128],
            message=message[:_MAX_MESSAGE],
            start_time=version.since if rollout is None else rollout.start_time,
            end_time=now,
            position="" if rollout is None else rollout.position,
            requests=0 if rollout is None else rollout.requests,
            checks=() if rollout is None else rollout.checks,
        )
        return replace(self, rollout=None, history=(record, *self.history)[:HISTORY_LIMIT])

    def blocked(self, version: ServedVersion, template_hash: str, reason: str, message: str, now: datetime) -> "Play":
        """With a digest that isn't tried again by itself: under this template, or under any when it is empty."""
        entry = FailedVersion(
            number=version.number,
            digest=version.digest,
            template_hash=template_hash,
            reason=reason[:128],
            message=message[:2048],
            time=now,
        )
        return replace(
            self, failed=(entry, *(item for item in self.failed if item.digest != entry.digest))[:FAILED_LIMIT]
        )

    def unblocked(self, digest: str) -> "Play":
        """Without what is held against a digest."""
        return replace(self, failed=tuple(item for item in self.failed if item.digest != digest))

    def is_blocked(self, digest: str, template_hash: str) -> bool:
        """Whether a digest was given up, for good or under this very template."""
        return any(item.digest == digest and item.template_hash in ("", template_hash) for item in self.failed)

    def is_given_up(self, digest: str) -> bool:
        """Whether a digest was given up for good, whatever its template."""
        return any(item.digest == digest and not item.template_hash for item in self.failed)
