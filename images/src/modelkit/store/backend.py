"""What a place to store objects must offer; the two are `folder` (a mounted volume) and `bucket` (object storage)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One listed object."""

    path: str
    """Relative to the store's root."""
    size: int
    """Bytes."""
    modified: datetime
    """Time-zone aware."""


class Backend(Protocol):
    """Objects by their path segments. Every error is a StoreError whose message names the address."""

    def read(self, segments: tuple[str, ...]) -> bytes:
        """The whole object; StoreObjectNotFoundError when there is none."""

    def read_part(self, segments: tuple[str, ...], start: int, length: int) -> bytes:
        """`length` bytes from the byte `start` on, all of which the object has; as `read` otherwise."""

    def write(self, segments: tuple[str, ...], data: bytes, *, replace: bool, private: bool = False) -> None:
        """All of `data` or nothing; with `replace` false, StoreObjectExistsError when there is an object.

        `private`: only the same user may read it, where the store tells users apart.
        """

    def size(self, segments: tuple[str, ...]) -> int | None:
        """Bytes of the object, None when there is none."""

    def list(self, segments: tuple[str, ...]) -> Iterator[StoredObject]:
        """Every object below the folder in a stable order; nothing when there is no such folder."""

    def delete(self, segments: tuple[str, ...]) -> None:
        """Remove the object; a missing one is no error."""

    def remove_empty(self, segments: tuple[str, ...]) -> None:
        """Remove a folder that holds nothing any more, where folders exist by themselves; another is left alone."""
