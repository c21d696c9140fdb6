"""What of a request's columns may be written to the store: columns left out, and columns of which only a hash is kept.

A captured row names the columns that it doesn't hold as they were sent (`redacted`), so that monitor and trainer can
leave them out instead of taking them for missing or for new categories.
"""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkit.contract.config import CaptureConfig
from modelkit.errors import RefusedError
from modelkit.serve.batch import Features, show

HASH_CHARACTERS = 16
"""64 bits: two of a million different values share a hash with a chance of 1 in 37 million."""
_HASHED_TYPES = frozenset({"string", "int64"})
_SHOWN_NAMES = 10


@dataclass(frozen=True, slots=True)
class Redaction:
    """The rule for one version's captured rows; the default changes nothing."""

    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    key: bytes = b""

    @property
    def names(self) -> list[str]:
        """Columns that aren't written as they were sent, sorted."""
        return sorted(self.dropped | self.hashed)

    def __repr__(self) -> str:
        """Without the key."""
        return f"Redaction(dropped={sorted(self.dropped)}, hashed={sorted(self.hashed)})"

    def hash(self, value: Any) -> str:
        """The first 16 hex digits of HMAC-SHA-256 (RFC 2104) of the value's UTF-8 text; a whole number in decimals.

        The column's name isn't part of it: equal values have equal hashes in all columns and deployments with the
        same key, so that they can be joined, and a person's rows found again by who has the key.
        """
        return hmac.digest(self.key, str(value).encode(errors="surrogatepass"), "sha256").hex()[:HASH_CHARACTERS]


NO_REDACTION = Redaction()


def read_redaction(config: CaptureConfig, features: Features) -> Redaction:
    """The rule that `config` asks for, with the key from its file.

    Raises RefusedError: for a column that the version doesn't take (a misspelt name would be written in full), for a
    column whose type has too few or no exact values to be hashed, and for a key that isn't there.
    """
    for field, names in (("drop", config.drop), ("hash", config.hash)):
        for name in names:
            if name not in features.positions:
                raise RefusedError("UnknownCaptureColumn", _unknown(field, name, features))
    for name in config.hash:
        column = features.columns[features.positions[name]]
        if column.dtype not in _HASHED_TYPES:
            raise RefusedError(
                "CaptureColumnNotHashable",
                f"capture.hash names the column {show(name)} of type {column.dtype}; text and whole numbers can be "
                "hashed; name it in capture.drop instead",
            )
    if not config.drop and not config.hash:
        return NO_REDACTION
    dropped = frozenset(config.drop)
    hashed = frozenset(config.hash) - dropped
    return Redaction(dropped, hashed, _read_key(config) if config.hash else b"")


def _read_key(config: CaptureConfig) -> bytes:
    if config.key_path is None:
        raise RefusedError("CaptureKeyMissing", "capture.hash needs a key, and no file of one is configured")
    try:
        # Without the line end that editors and `echo` add: the same key must give the same hashes elsewhere.
        key = Path(config.key_path).read_bytes().rstrip(b"\r\n")
    except OSError as exc:
        raise RefusedError(
            "CaptureKeyMissing",
            f"capture.hash needs the key {config.key_path}, which can't be read ({exc.strerror}); the Secret must "
            "have it, and the pod must be allowed to read it",
        ) from exc
    if not key:
        raise RefusedError("CaptureKeyMissing", f"the key {config.key_path} of capture.hash is empty; fill the Secret")
    return key


def _unknown(field: str, name: str, features: Features) -> str:
    known = ", ".join(map(show, features.names[:_SHOWN_NAMES])) + (", …" if len(features.names) > _SHOWN_NAMES else "")
    return f"capture.{field} names the column {show(name)}, which the version doesn't take; it takes {known}"
