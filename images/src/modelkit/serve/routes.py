"""What the server does at a path. Each protocol's module has a function that gives its routes; `app` lists them.

::

    def routes(service: Service) -> dict[str, Route]:
        return {"/predict": Route("predict", ask=service.predict)}
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from modelkit.serve.question import JSON, Question, Reply, Request
from modelkit.serve.record import record
from modelkit.serve.streaming import Stream

FALLBACK = "*"
"""The key of the route of all paths that no other route has (no path is a bare star)."""


@record
class Response:
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    stream: Stream | None = None
    """The body, where it is still coming; `body` is empty then."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a path does: one of `get`, `ask`, `post` and `relay`."""

    name: str
    """For metrics; never a client's path."""
    get: Callable[[], Response] | None = None
    """GET and HEAD. Called on the event loop."""
    ask: Callable[[Request], Question] | None = None
    """POST: inference. Parses; called on the event loop for small bodies, else on a thread."""
    post: Callable[[Request], Reply] | None = None
    """POST of anything else; called as `ask` is."""
    relay: Callable[[Request], Awaitable[Response]] | None = None
    """Any method and any content type, answered by somebody else. Takes one of the places of inference, and is
    cancelled after the inference's time."""
    status: int = 200
    """Of a good answer of `ask` and `post`."""
    is_open: bool = False
    """Needs no token: probes and metrics."""
    is_shared: bool = False
    """While versions change, requests may be answered by another version: inference that names no version."""
    is_costly: bool = False
    """Parsing is work for a thread, whatever the body's size."""

    @property
    def allowed(self) -> str:
        """The Allow header."""
        return "GET, HEAD" if self.get is not None else "POST"
