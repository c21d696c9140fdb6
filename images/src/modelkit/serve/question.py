"""An inference request between the protocol that it came by and the model that answers it.

A protocol turns a request into a `Question`: rows, and how their answer is written in that protocol. The model's side
knows no protocol, so that questions that came by different ones can be answered in one batch.
"""

from collections.abc import Callable

from modelkit.serve.batch import Batch
from modelkit.serve.head import Head
from modelkit.serve.model import Answer
from modelkit.serve.record import record

JSON = b"application/json"


@record
class Request:
    """A body, whole, decompressed and within the limits, and what of its head the protocols read."""

    body: bytes
    id: str
    """The client's X-Request-Id, or a new one."""
    json_length: int | None = None
    """Inference-Header-Content-Length: so many bytes of JSON come first, binary tensors after them."""
    head: Head | None = None
    """Everything else that was asked by HTTP; None for other protocols."""


@record
class Reply:
    """What goes back."""

    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


@record
class Question:
    """Rows that wait for an answer."""

    id: str
    """The request's id, which the answer and the captured rows carry; a protocol may have one of its own."""
    batch: Batch
    size: int
    """Bytes of the request's body."""
    render: Callable[[Answer], Reply]
    """Writes the answer to all rows of the batch."""
    is_captured: bool = True
    """False for rows that aren't a client's, or were asked before: they mustn't count in monitoring."""
    is_costly: bool = False
    """Rendering is work for a thread: the question is asked alone and never on the event loop."""
