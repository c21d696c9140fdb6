"""Read the ModelMonitor's status, and write one window into it: the only things that the monitor's pod may do in the
cluster.

A client library would take longer to import than the work takes. Read the status, put the window and its point of the
timeline in by their key `end`, apply both lists server-side under a field manager of our own. Reading a window twice
changes nothing, and the operator's fields are never touched.
"""

import http.client
import json
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from modelkit.contract.codec import to_plain
from modelkit.contract.result import TimelinePoint, WindowResult
from modelkit.errors import ModelKitError, RefusedError
from modelkit.monitor.history import merge_entries

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

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorStatus:
    """The status of one ModelMonitor in the cluster."""

    server: ApiServer
    namespace: str
    name: str
    delays: Sequence[float] = DELAYS
    """Conflicts, server errors and timeouts are tried again after each of these (seconds, with jitter)."""

    def read(self) -> Mapping[str, Any]:
        """The status as it is now, {} when nobody has written it.

        Raises RefusedError when there is no such ModelMonitor, StatusForbiddenError and StatusError.
        """
        return self._try(lambda: self._read_once().get("status") or {}, "read")

    def write(self, window: WindowResult, point: TimelinePoint, limits: "Limits", now: datetime) -> None:
        """Put `window` and `point` in, keeping the newest of each that `limits` allows. `now`, the real time, tells
        which entries are of the future; errors as of `read`.
        """
        self._try(lambda: self._write_once(window, point, limits, now), "written")

    def _try(self, act: Callable[[], T], what: str) -> T:
        for delay in self.delays:
            try:
                return act()
            except _TryAgainError as exc:
                logger.warning("status not %s yet", what, extra={"cause": str(exc)})
                # Jitter, so that monitors on one schedule don't return at once.
                time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
        try:
            return act()
        except _TryAgainError as exc:
            raise StatusError(
                f"the status of ModelMonitor {self.namespace}/{self.name} couldn't be {what} after "
                f"{len(self.delays) + 1} attempts: {exc}"
            ) from exc

    @property
    def _path(self) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{PLURAL}/{self.name}/status"

    def _read_once(self) -> dict[str, Any]:
        return _request(self.server, "GET", self._path, None)

    def _write_once(self, window: WindowResult, point: TimelinePoint, limits: "Limits", now: datetime) -> None:
        found = self._read_once()
        status = found.get("status") or {}
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            # The version that was read: when another pod wrote meanwhile, its window must not be lost.
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "resourceVersion": found["metadata"]["resourceVersion"],
            },
            "status": {
                "windows": merge_entries(status.get("windows") or (), to_plain(window), limits.windows, now),
                "timeline": merge_entries(status.get("timeline") or (), to_plain(point), limits.points, now),
            },
        }
        query = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
        _request(self.server, "PATCH", f"{self._path}?{query}", body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many entries are kept."""

    windows: int
    points: int


class _TryAgainError(Exception):
    pass


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
