"""W3C Trace Context: which of the client's trace headers are passed on.

The server starts no trace and adds no span: it repeats `traceparent` and `tracestate` in its answer, passes them to
another model server that it asks, and writes the trace's id beside an error in its log. By the specification's rules
(https://www.w3.org/TR/trace-context/), what isn't valid is ignored as if it weren't there, and never an error. Pure.
"""

import re
from dataclasses import dataclass

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_INVALID_VERSION = b"ff"
_FIRST_VERSION = b"00"
_MAX_MEMBERS = 32
_MAX_STATE_BYTES = 4096
"""The specification asks for at least 512 to be passed on; what is longer than this is ignored."""
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"(" + _KEY + rb")=" + _VALUE)


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that a request belongs to."""

    parent: bytes
    """`traceparent` as the client sent it."""
    state: bytes = b""
    """`tracestate`; empty for none."""

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self.parent[3:35].decode()

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers to pass on."""
        if not self.state:
            return ((TRACEPARENT, self.parent),)
        return ((TRACEPARENT, self.parent), (TRACESTATE, self.state))


def parse_trace(parents: list[bytes] | tuple[bytes, ...], states: list[bytes] | tuple[bytes, ...] = ()) -> Trace | None:
    """The trace of a request's `traceparent` and `tracestate` headers, in their order; None without a valid parent.

    Several `traceparent` are ambiguous and none counts; several `tracestate` are one list, which loses its optional
    spaces. A `tracestate` that isn't valid is left out alone.
    """
    if len(parents) != 1:
        return None
    parent = parents[0].strip(b" \t")
    if not _is_parent(parent):
        return None
    return Trace(parent, _clean_state(b",".join(states)))


def _is_parent(text: bytes) -> bool:
    found = _PARENT.fullmatch(text)
    if found is None or len(text) > _MAX_STATE_BYTES:
        return False
    version, trace, span, _, rest = found.groups()
    if version == _INVALID_VERSION or not trace.strip(b"0") or not span.strip(b"0"):
        return False
    # Later versions may append fields after a dash; the first one has none.
    return rest is None or (version != _FIRST_VERSION and rest.isascii() and rest.decode().isprintable())


def _clean_state(text: bytes) -> bytes:
    """The list's members without what is between them; empty for a list that isn't valid."""
    if len(text) > _MAX_STATE_BYTES:
        return b""
    members = [member for part in text.split(b",") if (member := part.strip(b" \t"))]
    keys = []
    for member in members:
        found = _MEMBER.fullmatch(member)
        if found is None:
            return b""
        keys.append(found.group(1))
    return b",".join(members) if len(keys) <= _MAX_MEMBERS and len(set(keys)) == len(keys) else b""
