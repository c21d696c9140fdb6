"""Write one window into the ModelMonitor's status: the only thing that the monitor's pod may do in the
cluster.

A client library would take longer to import than the work takes. Read the status, put the window in by its
key `end`, apply the list server-side under a field manager of our own. Reading a window twice changes
nothing, and the operator's fields are never touched.
"""

import http.client
import json
import logging
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from modelkit.contract.codec import parse_time, to_plain
from modelkit.contract.result import WindowResult
from modelkit.errors import ModelKitError, RefusedError

logger = logging.getLogger(__name__)

API_VERSION, KIND, PLURAL = "modelloop.dev/v1alpha1", "ModelMonitor", "modelmonitors"
FIELD_MANAGER = "modelloop-monitor"

API_SERVER = "MODELLOOP_API_SERVER"
TOKEN_FILE = "MODELLOOP_TOKEN_FILE"  # noqa: S105 - a name, not a token
CA_FILE = "MODELLOOP_CA_FILE"
"""Another API server than the pod's own: its address and files of the same kind."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts the pod's ServiceAccount."""

TIMEOUT_SECONDS = 15.0
DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further attempt."""
_WORTH_ANOTHER = frozenset({409, 429, 500, 502, 503, 504})


class StatusError(ModelKitError):
    """The status couldn't be written; another attempt may succeed."""


class StatusForbiddenError(StatusError):
    """The API server doesn't accept the ServiceAccount, or its rights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """How to reach the API server as the pod's ServiceAccount."""

    url: str
    token_file: Path
    ca_file: Path | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "ApiServer":
        """The pod's own API server, or what the MODELLOOP_ variables name; raises RefusedError outside of a
        pod."""
        token_file = Path(environ.get(TOKEN_FILE, ACCOUNT / "token"))
        ca_file = Path(environ.get(CA_FILE, ACCOUNT / "ca.crt"))
        if url := environ.get(API_SERVER):
            return cls(url=url.rstrip("/"), token_file=token_file, ca_file=ca_file if ca_file.exists() else None)
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise RefusedError("NoApiServer", f"KUBERNETES_SERVICE_HOST isn't set: run in a pod, or set {API_SERVER}")
        address = f"[{host}]" if ":" in host else host
        return cls(url=f"https://{address}:{port}", token_file=token_file, ca_file=ca_file)


def write_window(
    server: ApiServer,
    namespace: str,
    name: str,
    window: WindowResult,
    history_limit: int,
    delays: Sequence[float] = DELAYS,
) -> None:
    """Put `window` into the status of the ModelMonitor `name`, keeping the newest `history_limit` windows.

    Conflicts, server errors and timeouts are tried again after each of `delays` (seconds, with jitter).
    Raises RefusedError when there is no such ModelMonitor, StatusForbiddenError and StatusError.
    """
    for delay in (*delays, None):
        try:
            _write_once(server, namespace, name, window, history_limit)
            return
        except _TryAgainError as exc:
            if delay is None:
                raise StatusError(
                    f"the status of ModelMonitor {namespace}/{name} couldn't be written after "
                    f"{len(delays) + 1} attempts: {exc}"
                ) from exc
            logger.warning("status not written yet", extra={"cause": str(exc)})
            # Jitter, so that monitors on one schedule don't return at once.
            time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311


def merge_windows(
    windows: Sequence[Mapping[str, Any]], window: Mapping[str, Any], history_limit: int
) -> list[dict[str, Any]]:
    """The newest `history_limit` of `windows` and `window`, oldest first, one per `end`."""
    by_end = {parse_time(item["end"]): dict(item) for item in (*windows, window)}
    return [by_end[end] for end in sorted(by_end)][-history_limit:]


class _TryAgainError(Exception):
    pass


def _write_once(server: ApiServer, namespace: str, name: str, window: WindowResult, history_limit: int) -> None:
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURAL}/{name}/status"
    found = _request(server, "GET", path, None)
    windows = found.get("status", {}).get("windows", [])
    body = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        # The version that was read: when another pod wrote meanwhile, its window must not be lost.
        "metadata": {
            "name": name,
            "namespace": namespace,
            "resourceVersion": found["metadata"]["resourceVersion"],
        },
        "status": {"windows": merge_windows(windows, to_plain(window), history_limit)},
    }
    query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
    _request(server, "PATCH", f"{path}?{query}", body)


def _request(server: ApiServer, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    request = Request(  # noqa: S310 - the address is the cluster's own
        f"{server.url}{path}",
        method=method,
        data=None if body is None else json.dumps(body, allow_nan=False).encode(),
        headers={
            "Accept": "application/json",
            "Content-Type": "application/apply-patch+yaml",
            "User-Agent": FIELD_MANAGER,
            # Read each time: the kubelet replaces it before it expires.
            "Authorization": f"Bearer {_read_token(server)}",
        },
    )
    try:
        with _open(server, request) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer
    except HTTPError as exc:
        raise _explain(exc, server, path) from exc
    except (URLError, TimeoutError, OSError, http.client.HTTPException, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise StatusError(
                f"the certificate of {server.url} isn't trusted by {server.ca_file}: {reason.verify_message}"
            ) from exc
        raise _TryAgainError(f"{method} {server.url}: {type(reason).__name__}: {reason}") from exc


def _open(server: ApiServer, request: Request) -> http.client.HTTPResponse:
    # Never through a proxy of the environment: the API server is inside of the cluster.
    handlers: list[Any] = [ProxyHandler({})]
    if urlsplit(server.url).scheme == "https":
        handlers.append(HTTPSHandler(context=ssl.create_default_context(cafile=server.ca_file)))
    response: http.client.HTTPResponse = build_opener(*handlers).open(request, timeout=TIMEOUT_SECONDS)
    return response


def _read_token(server: ApiServer) -> str:
    try:
        return server.token_file.read_text().strip()
    except OSError as exc:
        raise StatusForbiddenError(
            f"the ServiceAccount's token {server.token_file} can't be read ({exc.strerror}); "
            "the pod needs automountServiceAccountToken"
        ) from exc


def _explain(error: HTTPError, server: ApiServer, path: str) -> Exception:
    with error:
        said = _message_of(error.read())
    if error.code in _WORTH_ANOTHER:
        return _TryAgainError(f"the API server answered {error.code}: {said}")
    monitor = "/".join(path.split("?")[0].split("/")[5:8:2])
    if error.code in (401, 403):
        return StatusForbiddenError(
            f"the API server doesn't let this pod write the status of ModelMonitor {monitor} ({error.code}: {said}); "
            f"its ServiceAccount needs get and patch on {PLURAL}/status of that name"
        )
    if error.code == 404:
        return RefusedError(
            "MonitorNotFound",
            f"there is no ModelMonitor {monitor} at {server.url}: it was deleted, or the CRDs aren't installed",
        )
    return StatusError(f"the API server refused the status of ModelMonitor {monitor} ({error.code}): {said}")


def _message_of(answer: bytes) -> str:
    """The message of a Kubernetes Status object, shortened."""
    try:
        return str(json.loads(answer)["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
