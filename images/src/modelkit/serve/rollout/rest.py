"""What an HTTP request is to the router. On the event loop."""

from collections.abc import Callable
from functools import partial

from modelkit.serve.engine import Engine, Parse
from modelkit.serve.question import Request
from modelkit.serve.rollout.lane import Lane
from modelkit.serve.rollout.marks import Headers
from modelkit.serve.rollout.router import Ask, Router
from modelkit.serve.rollout.verdict import Verdict


def build_ask(
    router: Router,
    engine: Engine,
    request: Request,
    parse: Parse,
    note: Callable[[Exception], None],
    *,
    is_costly: bool,
) -> Ask:
    """The request for `router`; `parse`, `is_costly` as Engine.submit takes them, `note` as Ask does."""
    key = None
    if router.rule.sticky_header is not None and request.head is not None:
        wanted = router.rule.sticky_header.encode()
        found = next((value for name, value in request.head.headers if name == wanted), b"")
        key = found.decode("latin-1") or None
    return Ask(engine, parse, len(request.body), is_costly, key, partial(_pass_on, request), note)


async def _pass_on(request: Request, lane: Lane, marks: Headers) -> Verdict:
    return await lane.http.ask(request, marks)
