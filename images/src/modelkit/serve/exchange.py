"""One request and its answer, in the order of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from modelkit.serve.errors import RequestError
from modelkit.serve.head import Head
from modelkit.serve.routes import Response, Route

if TYPE_CHECKING:
    import asyncio


class Abandonable(Protocol):
    """An answer that somebody waits for."""

    def abandon(self) -> None:
        """Nobody waits any more."""


class Owner(Protocol):
    """The connection that an exchange belongs to."""

    def flush(self) -> None:
        """Write what can be written: an exchange has its answer."""


class Exchange:
    """From a request's head to the answer that is ready to be written."""

    __slots__ = ("body", "error", "head", "owner", "request_id", "response", "route", "start", "task", "ticket")

    def __init__(self, owner: Owner, head: Head | None, request_id: str, start: float) -> None:
        self.owner = owner
        self.head = head
        """None when it couldn't be read."""
        self.request_id = request_id
        """That the answer carries."""
        self.start = start
        """When the head was there, on time.perf_counter's clock."""
        self.route: Route | None = None
        self.error: RequestError | None = None
        """Found in the head: the body isn't needed."""
        self.body = b""
        self.ticket: Abandonable | None = None
        self.task: asyncio.Task[None] | None = None
        """Has somebody else answer it."""
        self.response: Response | None = None

    def respond(self, response: Response) -> None:
        """Give the answer, once; it is written when those before it are."""
        if self.response is None:
            self.response = response
            self.owner.flush()

    def abandon(self) -> None:
        """The client is gone."""
        if self.ticket is not None:
            self.ticket.abandon()
        if self.task is not None:
            self.task.cancel()


class Answerer(Protocol):
    """The application."""

    @property
    def is_draining(self) -> bool:
        """Do connections end with their next answer?"""

    def admit(self, exchange: Exchange) -> None:
        """Look at the head before the body is read; raises RequestError for what will never be answered."""

    def answer(self, exchange: Exchange) -> None:
        """Answer the whole request, now or later, by `exchange.respond`."""

    def observe(self, exchange: Exchange, status: int, error: RequestError | None = None) -> None:
        """Count an answered request."""
