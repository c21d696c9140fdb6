"""Dataclasses for what every request makes several of."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots that the type checker keeps from being changed.

    At run time it isn't frozen: a frozen one sets each field through a call, which takes several microseconds of a
    request that takes sixty.
    """
    return dataclass(slots=True)(cls)
