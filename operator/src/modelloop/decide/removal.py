"""Decides what becomes of a note that a training's versions go with it. Pure."""

from dataclasses import dataclass
from typing import Literal

Step = Literal["Forget", "Remove", "Wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedNote:
    """A note that is being deleted."""

    training_lives: bool
    """The training that it is about is still there: then somebody deleted the note alone."""
    has_pods: bool
    """A pod of the training's runs is left, which may still write."""
    is_removing: bool
    """Its Job is there."""
    is_removed: bool
    """Its Job has succeeded."""


def decide_removal(observed: ObservedNote) -> Step:
    """Forget the note, remove the versions, or wait for what wakes us."""
    if observed.training_lives or observed.is_removed:
        return "Forget"
    return "Wait" if observed.is_removing or observed.has_pods else "Remove"
