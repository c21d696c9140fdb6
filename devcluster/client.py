"""The few requests that devcluster itself sends to an API server, over one kept-open connection.

kubectl would do, but costs a fifth of a second per call.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devcluster.errors import DevClusterError

Object = dict[str, Any]
FIELD_MANAGER = "devcluster"


class ApiClient:
    """Speaks to one API server as the administrator."""

    def __init__(self, server: str, pki: Path) -> None:
        url = urlsplit(server)
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready to serve."""
        try:
            return self._request("GET", "/readyz")[0] == http.client.OK
        except DevClusterError:
            return False

    def get(self, path: str) -> Object | None:
        """The object or list at `path`, None when there is none."""
        status, body = self._request("GET", path)
        if status == http.client.NOT_FOUND:
            return None
        return self._decode("GET", path, status, body)

    def apply(self, path: str, wanted: Mapping[str, Any]) -> Object:
        """Server-side apply of one object, whose path must end with its name."""
        query = f"{path}?fieldManager={FIELD_MANAGER}&force=true"
        return self._decode("PATCH", path, *self._request("PATCH", query, wanted, "application/apply-patch+yaml"))

    def merge(self, path: str, change: Mapping[str, Any]) -> Object:
        """JSON merge patch of one object."""
        return self._decode("PATCH", path, *self._request("PATCH", path, change, "application/merge-patch+json"))

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        try:
            encoded = None if body is None else json.dumps(body)
            self._connection.request(method, path, body=encoded, headers={"Content-Type": content_type})
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise DevClusterError(f"the API server doesn't answer {method} {path}: {exc}") from exc

    @staticmethod
    def _decode(method: str, path: str, status: int, body: bytes) -> Object:
        if status >= http.client.BAD_REQUEST:
            raise DevClusterError(f"the API server answers {method} {path} with {status}: {body.decode()[:500]}")
        decoded: Object = json.loads(body)
        return decoded
