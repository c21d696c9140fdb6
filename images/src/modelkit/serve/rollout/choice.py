"""Which version answers a request, and which requests both score. Pure, and the same for the same requests in order.

Shares are exact by error diffusion: of the first n requests, floor(n × share) are chosen, evenly spread. Requests with
a key are chosen by the key's hash instead, so that all pods choose the same; the hash depends on the other version, so
that it isn't always the same users who get the new one first.
"""

from dataclasses import dataclass
from hashlib import blake2b

from modelkit.contract.route import RuleConfig

_PER_CENT = 1_000_000
"""Shares are whole millionths of a percentage, so that nothing is rounded away over millions of requests."""
_WHOLE = 100 * _PER_CENT
_HASHES = 2**64


class Diffusion:
    """Chooses a share of what comes."""

    def __init__(self, percent: float) -> None:
        self._step = _units(percent)
        self._rest = 0

    def take(self) -> bool:
        """Is the next one chosen?"""
        self._rest += self._step
        if self._rest < _WHOLE:
            return False
        self._rest -= _WHOLE
        return True


def is_in_share(key: str, salt: str, percent: float) -> bool:
    """Does `key` belong to the share? Who belongs to a share belongs to every larger one."""
    found = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8, key=blake2b(salt.encode()).digest())
    return int.from_bytes(found.digest(), "big") * _WHOLE < _units(percent) * _HASHES


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of one request."""

    is_routed: bool
    """The other version is to answer it."""
    is_compared: bool
    """Both are to score it."""


_CHOICES = {(routed, compared): Choice(routed, compared) for routed in (False, True) for compared in (False, True)}


class Chooser:
    """Follows one rule."""

    def __init__(self, rule: RuleConfig) -> None:
        self._rule = rule
        self._routed = Diffusion(rule.weight)
        # Apart, so that the compared ones are spread evenly over what each of the versions answers.
        self._compared = {is_routed: Diffusion(rule.compare) for is_routed in (False, True)}

    def choose(self, key: str | None) -> Choice:
        """The choice for the next request, whose key is `key`."""
        rule = self._rule
        is_routed = self._routed.take() if key is None else is_in_share(key, rule.other, rule.weight)
        return _CHOICES[is_routed, self._compared[is_routed].take()]


def _units(percent: float) -> int:
    return round(percent * _PER_CENT)
