"""What the server reads from a request's line and headers."""

from dataclasses import dataclass

from modelkit.serve.trace import Trace

HOP = b"modelloop-hop"
"""Another pod has passed the request on; see serve.rollout."""


@dataclass(slots=True, eq=False)
class Head:
    """The head of a request, or of several that have the same.

    Never changed once made; not frozen, because that would take a microsecond more.
    """

    method: bytes
    path: str
    """Percent-decoded, without the query."""
    target: bytes
    """As the client sent it: path and query."""
    headers: list[tuple[bytes, bytes]]
    """In the client's order, names in lower case."""
    request_id: str | None
    """The client's X-Request-Id."""
    content_type: bytes = b""
    content_encoding: bytes = b""
    content_length: int | None = None
    is_chunked: bool = False
    is_last: bool = False
    """Does the client want the connection closed after the answer (or speaks HTTP/1.0 without keep-alive)?"""
    is_old: bool = False
    """HTTP/1.0, which knows no chunks?"""
    is_waiting: bool = False
    """Expect: 100-continue: the client sends its body when it is told to."""
    json_length: int | None = None
    """Inference-Header-Content-Length."""
    authorization: bytes | None = None
    trace: Trace | None = None
    """Given back with the answer."""
    is_passed_on: bool = False
    """Does it have the header HOP?"""

    @property
    def has_body(self) -> bool:
        """Does a body follow?"""
        return self.is_chunked or bool(self.content_length)
