"""`python -m modelkit.monitor`: look at one window, write its report, tell the ModelMonitor's status.

The only place that turns errors into exit codes and a termination message. Arrow, numpy and scipy are
imported late, after the configuration has been read.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from modelkit.artifact.version import ArtifactError
from modelkit.contract.codec import ContractError, loads, parse_time
from modelkit.contract.environment import CONFIG, ExitCode
from modelkit.contract.files import REPORT_HTML, REPORT_JSON, TERMINATION_LOG, report_directory
from modelkit.contract.monitoring import MonitorConfig
from modelkit.contract.result import WindowResult
from modelkit.errors import ModelKitError, RefusedError, StoreError, StorePermissionError
from modelkit.logs import set_up_logging
from modelkit.monitor.status import ApiServer, StatusError, StatusForbiddenError, write_window
from modelkit.store.store import Store

logger = logging.getLogger("modelkit.monitor")

WINDOW_END = "MODELLOOP_WINDOW_END"
"""End of the window, an RFC 3339 time: a run that is repeated looks at the same window. Absent: now."""
TERMINATION_LOG_VARIABLE = "MODELLOOP_TERMINATION_LOG"
"""Another path for the termination message, where there is no kubelet."""

_MESSAGE_CHARACTERS = 1000
"""The kubelet cuts at 4,096 bytes."""


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
        window = monitor(read_config(environ), environ, read_window_end(environ))
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
    states = ", ".join(f"{check.name} {check.state}" for check in window.checks)
    return ExitCode.DONE, "", f"{window.rows:,} rows, {window.labels:,} labels: {states}"


def read_config(environ: Mapping[str, str]) -> MonitorConfig:
    """The configuration; raises RefusedError when it is missing or doesn't fit the contract."""
    try:
        return loads(MonitorConfig, environ.get(CONFIG, ""))
    except ContractError as exc:
        message = f"{CONFIG} doesn't fit the contract: {exc}; operator and monitor image must match"
        raise RefusedError("BadConfiguration", message) from exc


def read_window_end(environ: Mapping[str, str]) -> datetime:
    """When the window ends, in UTC; raises RefusedError for something that is no time."""
    text = environ.get(WINDOW_END)
    if not text:
        return datetime.now(UTC)
    try:
        return parse_time(text).astimezone(UTC)
    except ContractError as exc:
        raise RefusedError("BadConfiguration", f"{WINDOW_END}: {exc}") from exc


def monitor(config: MonitorConfig, environ: Mapping[str, str], now: datetime) -> WindowResult:
    """Look at the window that ends at `now`, write its report, then its entry in the status. Raises
    ModelKitError."""
    from modelkit.monitor.explaining import read_own_rows
    from modelkit.monitor.gathering import gather_window
    from modelkit.monitor.page import build_page
    from modelkit.monitor.reference import read_reference
    from modelkit.monitor.report import build_report
    from modelkit.monitor.window import examine_window, window_bounds

    server = ApiServer.from_environment(environ)
    store = Store.open(config.store, environ)
    reference = read_reference(store, config.version)
    start, end = window_bounds(config, now)
    gathered = gather_window(store, config, reference, (start, end), datetime.now(UTC))
    own = read_own_rows(store, config, reference)
    examination = examine_window(config, reference, gathered, (start, end), own)
    folder = report_directory(config.namespace, config.name, end)
    # The report first: a window in the status must not refer to nothing.
    store.write(f"{folder}/{REPORT_JSON}", build_report(config, examination))
    store.write(f"{folder}/{REPORT_HTML}", build_page(config, examination))
    result = examination.result
    write_window(server, config.namespace, config.name, result, config.history_limit)
    states = {check.name: check.state for check in result.checks}
    logger.info("window looked at", extra={"rows": result.rows, "labels": result.labels, "checks": states})
    return result


if __name__ == "__main__":
    sys.exit(main(os.environ))
