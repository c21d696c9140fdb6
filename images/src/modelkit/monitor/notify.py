"""Tell somebody over HTTP when the state of a monitor changes, or when the operator has asked for something.

Level-triggered: what is sent follows from a window and the one before it. A window that is looked at twice sends the
same id twice, and a receiver drops the second. One that can't be reached costs a warning, never the window. Its address
is a secret, as is the token: neither is in any message. No value of a request is sent; names of columns are.
"""

import http.client
import json
import logging
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from modelkit.contract.codec import format_time, to_plain
from modelkit.contract.monitoring import MonitorConfig, NotifyConfig
from modelkit.contract.result import CheckResult, WindowResult
from modelkit.monitor.history import History, PastWindow, Retrain, Rollback
from modelkit.monitor.wording import BREACHED, overall_state, state_of

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the generic JSON, see docs/monitoring/notifications.md."""
SLACK = "Slack"
STATE_CHANGED, CHECKS_CHANGED = "StateChanged", "ChecksChanged"
RETRAIN_REQUESTED, ROLLBACK_REQUESTED = "RetrainRequested", "RollbackRequested"
"""Why somebody is told."""

TIMEOUT_SECONDS = 10.0
DELAYS = (1.0, 4.0)
"""Seconds before each further attempt."""
_URL, _TOKEN, _CA = "url", "token", "ca.crt"
"""Keys of the Secret; the last two needn't be there."""
_MOST_ADDRESS = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What is to be told of a window."""

    window: WindowResult
    previous: PastWindow | None
    """Of the same version."""
    reasons: tuple[str, ...]
    retrain: Retrain | None = None
    rollback: Rollback | None = None


def decide_notification(window: WindowResult, history: History) -> Notification | None:
    """What is to be told when `window` was looked at; None when it says what the one before it said.

    The first window of a version is told when it is Breached. A request counts for the first window that ends after it.
    """
    earlier = [past for past in history.windows if past.digest == window.digest]
    previous = earlier[-1] if earlier else None
    state, breached = overall_state(window.checks), {c.name for c in window.checks if c.state == BREACHED}
    reasons = []
    if (previous is None and state == BREACHED) or (previous is not None and state_of(previous.states) != state):
        reasons.append(STATE_CHANGED)
    elif previous is not None and previous.breached != breached:
        reasons.append(CHECKS_CHANGED)
    since = history.windows[-1].end if history.windows else window.start
    retrain = history.retrain if history.retrain and since < history.retrain.time <= window.end else None
    rollback = history.rollback if history.rollback and since < history.rollback.time <= window.end else None
    reasons += [RETRAIN_REQUESTED] if retrain else []
    reasons += [ROLLBACK_REQUESTED] if rollback else []
    if not reasons:
        return None
    return Notification(window=window, previous=previous, reasons=tuple(reasons), retrain=retrain, rollback=rollback)


def build_message(config: MonitorConfig, notification: Notification) -> dict[str, Any]:
    """The JSON that is sent, of either format."""
    text = describe(config, notification)
    if config.notify is not None and config.notify.format == SLACK:
        return {"text": _escape(text)}
    window, previous = notification.window, notification.previous
    breached = [check for check in window.checks if check.state == BREACHED]
    retrain, rollback = notification.retrain, notification.rollback
    return {
        "format": FORMAT,
        "id": notification_id(config, window.end),
        "reasons": list(notification.reasons),
        "namespace": config.namespace,
        "monitor": config.name,
        "deployment": config.deployment,
        "version": window.version,
        "digest": window.digest,
        "start": format_time(window.start),
        "end": format_time(window.end),
        "rows": window.rows,
        "labels": window.labels,
        "state": overall_state(window.checks),
        "previousState": None if previous is None else state_of(previous.states),
        "breached": [_describe_check(check) for check in breached],
        "recovered": sorted(_recovered(notification)),
        "retrain": None if retrain is None else to_plain(retrain),
        "rollback": None if rollback is None else to_plain(rollback),
        "report": window.report,
        "text": text,
    }


def notification_id(config: MonitorConfig, end: datetime) -> str:
    """The same for every look at a window, e.g. `shop/churn/2026-03-01T12:00:00Z`."""
    return f"{config.namespace}/{config.name}/{format_time(end)}"


def describe(config: MonitorConfig, notification: Notification) -> str:
    """The notification for people, one thing a line."""
    window, previous = notification.window, notification.previous
    state = overall_state(window.checks)
    change = f" (was {state_of(previous.states)})" if previous and state_of(previous.states) != state else ""
    lines = [
        f"Model monitor {config.namespace}/{config.name}: {state}{change}, deployment {config.deployment}, version "
        f"{window.version}, {window.rows:,} rows until {format_time(window.end)}"
    ]
    lines += [f"• {check.name} is Breached: {check.message}" for check in window.checks if check.state == BREACHED]
    if recovered := _recovered(notification):
        lines.append(f"• no longer Breached: {', '.join(sorted(recovered))}")
    if notification.retrain:
        lines.append(f"• a retrain was asked for: {notification.retrain.reason}")
    if notification.rollback:
        lines.append(f"• the version before was asked back: {notification.rollback.reason}")
    lines.append(f"Report: {window.report}")
    return "\n".join(lines)


def send(config: NotifyConfig, message: Mapping[str, Any], key: str, delays: Sequence[float] = DELAYS) -> str | None:
    """POST `message` with `key` as its Idempotency-Key; None when the receiver took it, else what went wrong.

    Server errors, 429 and connections that fail are tried again after each of `delays`.
    """
    try:
        request, context = _build_request(Path(config.directory), message, key)
    except (OSError, ValueError) as exc:
        problem = f"the webhook's Secret can't be used: {_explain_secret(exc)}"
        logger.warning("nobody was told", extra={"cause": problem})
        return problem
    for delay in (*delays, None):
        failure, worth_another = _post(request, context)
        if failure is None:
            return None
        if delay is None or not worth_another:
            break
        time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
    logger.warning("nobody was told", extra={"cause": failure})
    return failure


def _post(request: Request, context: ssl.SSLContext) -> tuple[str | None, bool]:
    """What went wrong, and is it worth another attempt? Never with an exception's text, which may hold the address."""
    try:
        with build_opener(HTTPSHandler(context=context), _NoRedirect).open(request, timeout=TIMEOUT_SECONDS):
            return None, False
    except HTTPError as exc:
        exc.close()
        if 300 <= exc.code < 400:
            return f"the webhook answered {exc.code}: redirects aren't followed", False
        return f"the webhook answered {exc.code}", exc.code == 429 or exc.code >= 500
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return "the webhook's certificate isn't trusted", False
        cause = type(reason).__name__ if isinstance(reason, Exception) else type(exc).__name__
        return f"the webhook can't be reached: {cause}", isinstance(exc, OSError)


def _build_request(folder: Path, message: Mapping[str, Any], key: str) -> tuple[Request, ssl.SSLContext]:
    url = (folder / _URL).read_text(encoding="utf-8").strip()
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname or len(url) > _MOST_ADDRESS:
        raise _SecretError(f"`{_URL}` must be an address that begins with https:// or http://")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "modelloop-monitor",
        "Idempotency-Key": key,
    }
    token = folder / _TOKEN
    if token.exists() and (bearer := token.read_text(encoding="utf-8").strip()):
        if not bearer.isascii() or not bearer.isprintable():
            raise _SecretError(f"`{_TOKEN}` must be one line of ASCII characters")
        headers["Authorization"] = f"Bearer {bearer}"
    authority = folder / _CA
    context = ssl.create_default_context(cafile=authority if authority.exists() else None)
    data = json.dumps(message, ensure_ascii=False, allow_nan=False).encode()
    return Request(url, method="POST", data=data, headers=headers), context  # noqa: S310 - checked above


def _explain_secret(error: Exception) -> str:
    if isinstance(error, _SecretError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"it has no key `{_URL}`"
    return type(error).__name__


def _describe_check(check: CheckResult) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(check)
    return {key: plain.get(key) for key in ("name", "message", "value", "limit", "rows", "worst")}


def _recovered(notification: Notification) -> frozenset[str]:
    """Checks that were Breached in the window before and aren't any more; an Unknown one may still be."""
    if notification.previous is None:
        return frozenset()
    fine = {check.name for check in notification.window.checks if check.state == "OK"}
    return notification.previous.breached & fine


def _escape(text: str) -> str:
    """Names can't become links or mentions: what Slack asks to be escaped in mrkdwn."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _SecretError(ValueError):
    pass


class _NoRedirect(HTTPRedirectHandler):
    """A redirect could send the message, and the token, to somebody else."""

    def redirect_request(self, *_: object) -> None:
        """Follow none: it is answered as an error."""
