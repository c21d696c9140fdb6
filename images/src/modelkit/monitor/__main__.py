"""`python -m modelkit.monitor`: look at one window, write its report, tell the ModelMonitor's status, and whoever wants
to be told.

The only place that turns errors into exit codes and a termination message. Arrow, numpy and scipy are
imported late, after the configuration has been read.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modelkit.artifact.version import ArtifactError
from modelkit.contract.codec import ContractError, loads, parse_time
from modelkit.contract.environment import CONFIG, ExitCode
from modelkit.contract.files import REPORT_HTML, REPORT_JSON, TERMINATION_LOG, report_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import WindowResult
from modelkit.errors import ModelKitError, RefusedError, StoreError, StorePermissionError
from modelkit.logs import set_up_logging
from modelkit.monitor.history import History, read_history
from modelkit.monitor.schedule import decide_window_end
from modelkit.monitor.status import ApiServer, Limits, MonitorStatus, StatusError, StatusForbiddenError
from modelkit.store.store import Store

logger = logging.getLogger("modelkit.monitor")

WINDOW_END = "MODELLOOP_WINDOW_END"
"""End of the window, an RFC 3339 time. Absent: the time that the Job was scheduled for, or now."""
JOB_NAME = "MODELLOOP_JOB_NAME"
"""Name of the pod's Job."""
TERMINATION_LOG_VARIABLE = "MODELLOOP_TERMINATION_LOG"
"""Another path for the termination message, where there is no kubelet."""

_MESSAGE_CHARACTERS = 1000
"""The kubelet cuts at 4,096 bytes."""
_MOST_AHEAD = timedelta(hours=1)
"""A window that ends later than this from now is never kept in the status."""


@dataclass(frozen=True, slots=True)
class Look:
    """A window that was looked at."""

    window: WindowResult
    warning: str | None = None
    """What went wrong without spoiling the window."""


def main(environ: Mapping[str, str]) -> ExitCode:
    """Monitor as `environ` says; writes the termination message and returns the exit code."""
    set_up_logging()
    code, reason, message = _run(environ)
    outcome = "Succeeded" if code is ExitCode.DONE else "Failed"
    text = {"outcome": outcome, "reason": reason, "message": message[:_MESSAGE_CHARACTERS]}
    path = Path(environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG))
    try:
        path.write_text(json.dumps({key: value for key, value in text.items() if value}), encoding="utf-8")
    except OSError as exc:
        logger.error("no termination message", extra={"path": str(path), "error": exc.strerror})
    if code is not ExitCode.DONE:
        logger.error("the window wasn't looked at", extra={"reason": reason, "cause": message})
    return code


def _run(environ: Mapping[str, str]) -> tuple[ExitCode, str, str]:
    try:
        look = monitor(read_config(environ), environ, read_window_end(environ))
    except RefusedError as exc:
        return ExitCode.REFUSED, exc.reason, exc.message
    except ArtifactError as exc:
        return ExitCode.REFUSED, "VersionUnusable", str(exc)
    except (StorePermissionError, StatusForbiddenError) as exc:
        return ExitCode.FAILED, "PermissionDenied", str(exc)
    except StoreError as exc:
        return ExitCode.FAILED, "StoreUnavailable", str(exc)
    except StatusError as exc:
        return ExitCode.FAILED, "StatusNotWritten", str(exc)
    except ModelKitError as exc:
        return ExitCode.FAILED, type(exc).__name__.removesuffix("Error"), str(exc)
    except MemoryError:
        message = "the window needs more memory than there is; raise spec.resources or shorten spec.window"
        return ExitCode.FAILED, "OutOfMemory", message
    except Exception as exc:  # noqa: BLE001 - the outermost edge: whatever happens, the operator is told
        # Without the message, which may quote a value of the data.
        frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exc.__traceback__)]
        logger.error("unexpected error", extra={"error": type(exc).__name__, "frames": frames})
        return ExitCode.FAILED, "InternalError", f"{type(exc).__name__} at {frames[-1]}"
    window, suffix = look.window, f"; {look.warning}" if look.warning else ""
    states = ", ".join(f"{check.name} {check.state}" for check in window.checks)
    return ExitCode.DONE, "", f"{window.rows:,} rows, {window.labels:,} labels: {states}{suffix}"


def read_config(environ: Mapping[str, str]) -> MonitorConfig:
    """The configuration; raises RefusedError when it is missing or doesn't fit the contract."""
    try:
        return loads(MonitorConfig, environ.get(CONFIG, ""))
    except ContractError as exc:
        message = f"{CONFIG} doesn't fit the contract: {exc}; operator and monitor image must match"
        raise RefusedError("BadConfiguration", message) from exc


def read_window_end(environ: Mapping[str, str]) -> datetime:
    """When the window ends, in UTC; raises RefusedError for something that is no time, or one of the future."""
    now = datetime.now(UTC)
    text = environ.get(WINDOW_END)
    if not text:
        return decide_window_end(environ.get(JOB_NAME, ""), now)
    try:
        end = parse_time(text).astimezone(UTC)
    except ContractError as exc:
        raise RefusedError("BadConfiguration", f"{WINDOW_END}: {exc}") from exc
    if end > now + _MOST_AHEAD:
        raise RefusedError("BadConfiguration", f"{WINDOW_END} {text} is in the future: there is nothing to look at yet")
    return end


def monitor(config: MonitorConfig, environ: Mapping[str, str], now: datetime) -> Look:
    """Look at the window that ends at `now`, write its report, then its entry in the status, and tell whoever wants to
    be told. Raises ModelKitError."""
    from modelkit.monitor.explaining import read_own_rows
    from modelkit.monitor.gathering import gather_window
    from modelkit.monitor.page import build_page
    from modelkit.monitor.reference import read_reference
    from modelkit.monitor.report import build_report
    from modelkit.monitor.retention import remove_old
    from modelkit.monitor.timeline import build_point
    from modelkit.monitor.window import examine_window, window_bounds

    status = MonitorStatus(server=ApiServer.from_environment(environ), namespace=config.namespace, name=config.name)
    store = Store.open(config.store, environ)
    reference = read_reference(store, config.version)
    start, end = window_bounds(config, now)
    gathered = gather_window(store, config, reference, (start, end), datetime.now(UTC))
    own = read_own_rows(store, config, reference)
    history = read_history(status.read(), end)
    examination = examine_window(config, reference, gathered, (start, end), own, history.points)
    folder = report_directory(config.namespace, config.name, end)
    # The report first: a window in the status must not refer to nothing.
    store.write(f"{folder}/{REPORT_JSON}", build_report(config, examination, history))
    store.write(f"{folder}/{REPORT_HTML}", build_page(config, examination, history))
    result = examination.result
    limits = Limits(windows=config.history_limit, points=config.timeline_limit)
    status.write(result, build_point(examination), limits, datetime.now(UTC))
    states = {check.name: check.state for check in result.checks}
    logger.info("window looked at", extra={"rows": result.rows, "labels": result.labels, "checks": states})
    warning = _notify(config, result, history)
    remove_old(store, config, end)
    return Look(result, warning)


def _notify(config: MonitorConfig, window: WindowResult, history: History) -> str | None:
    """What went wrong when somebody was to be told."""
    if config.notify is None:
        return None
    from modelkit.monitor.notify import build_message, decide_notification, notification_id, send

    notification = decide_notification(window, history)
    if notification is None:
        return None
    key = notification_id(config, window.end)
    return send(config.notify, build_message(config, notification), key)


if __name__ == "__main__":
    sys.exit(main(os.environ))
