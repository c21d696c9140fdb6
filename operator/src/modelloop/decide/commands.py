"""What people ask of a rollout by annotations. Every value is answered once, whenever it is seen. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from modelloop.api.rollout import COMMANDS, PROMOTE, HandledAnnotation
from modelloop.decide.play import Play

FULL = "full"
"""A value of `promote` that begins so skips all steps that are left."""
_MAX_VALUE = 256


@dataclass(frozen=True, slots=True)
class Commands:
    """What is newly asked for; the first that applies is done."""

    names: frozenset[str] = frozenset()
    is_full: bool = False

    def has(self, *names: str) -> bool:
        """Is one of these asked for?"""
        return not self.names.isdisjoint(names)


def read_commands(annotations: Mapping[str, str], play: Play) -> tuple[Play, Commands]:
    """The annotations that weren't answered yet, and `play` in which they are."""
    handled = {entry.name: entry.value for entry in play.handled}
    current = {name: annotations.get(name, "").strip()[:_MAX_VALUE] for name in COMMANDS}
    fresh = {name for name, value in current.items() if value and value != handled.get(name)}
    if not fresh:
        return play, Commands()
    kept = handled | {name: current[name] for name in fresh}
    entries = tuple(HandledAnnotation(name=name, value=value) for name, value in sorted(kept.items()))
    is_full = PROMOTE in fresh and current[PROMOTE].lower().startswith(FULL)
    return replace(play, handled=entries), Commands(frozenset(fresh), is_full)
