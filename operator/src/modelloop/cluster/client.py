"""The only place that talks to the API server: plain dicts in and out, errors as modelloop's own.

Built on kubernetes.aio.dynamic's request, without its discovery: the operator knows its few resources, and start-up
needs no extra rights or time.
"""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError

from modelloop.cluster.resources import Resource
from modelloop.errors import ClusterError, ConflictError, ForbiddenError, InvalidError, NotFoundError

Object = dict[str, Any]

FIELD_MANAGER = "modelloop-operator"
REQUEST_TIMEOUT = 30.0
CHUNK = 500
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class _PlainApiClient(ApiClient):
    """Sends what it is given: bodies here are plain JSON already, and walking them costs as much as encoding them."""

    def sanitize_for_serialization(self, obj: Any) -> Any:
        """`obj` itself."""
        return obj


class Client:
    """A thin asynchronous client. Every call is bounded by REQUEST_TIMEOUT seconds."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._dynamic = DynamicClient(api)

    @classmethod
    async def connect(cls, connections: int = 64) -> "Client":
        """With the pod's ServiceAccount, or the kubeconfig of KUBECONFIG outside a cluster."""
        configuration = Configuration()
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            kubernetes_config.load_incluster_config(client_configuration=configuration)
        else:
            await kubernetes_config.load_kube_config(client_configuration=configuration)
        configuration.connection_pool_maxsize = connections
        # As kopf: no proxy and no netrc from the environment, which aiohttp would read in a thread for every request.
        configuration.client_session_kwargs = {"trust_env": False}
        return cls(_PlainApiClient(configuration))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """One object; raises NotFoundError."""
        return await self._call("get", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None = None, selector: str | None = None, *, metadata: bool = False
    ) -> AsyncIterator[Object]:
        """All objects in chunks; `metadata`: only their metadata, which is far less to send and parse."""
        token: str | None = None
        headers = {"Accept": _METADATA_ONLY} if metadata else {}
        while True:
            page = await self._call(
                "get",
                resource.path(namespace),
                header_params=dict(headers),
                limit=CHUNK,
                label_selector=selector,
                _continue=token,
            )
            for item in page.get("items") or ():  # an empty list of metadata is null
                yield item
            token = page.get("metadata", {}).get("continue")
            if not token:
                return

    async def apply(self, resource: Resource, body: Object) -> Object:
        """Server-side apply by the operator's field manager; conflicts are taken over: the children are ours."""
        metadata = body["metadata"]
        return await self._call(
            "patch",
            resource.path(metadata["namespace"], metadata["name"]),
            body=body,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts="true",
        )

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """Merge-patch the status subresource; `patch` carries the resourceVersion it rests on (ConflictError)."""
        return await self._call(
            "patch",
            resource.path(namespace, name, "status"),
            body=patch,
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """Merge-patch an object."""
        return await self._call(
            "patch",
            resource.path(namespace, name),
            body=patch,
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """Create an object; raises ConflictError when it exists."""
        return await self._call("post", resource.path(namespace), body=body, field_manager=FIELD_MANAGER)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        """Replace an object; its resourceVersion is the precondition (ConflictError)."""
        return await self._call("put", resource.path(namespace, name), body=body, field_manager=FIELD_MANAGER)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None = None) -> Object | None:
        """Delete an object and, in the background, what it owns.

        Returns what is left of it while finalizers or a grace period hold it; None when it is gone, or was before.
        """
        options: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            answer = await self._call("delete", resource.path(namespace, name), body=options)
        except NotFoundError:
            return None
        return answer if answer.get("kind") != "Status" else None

    async def _call(self, method: str, path: str, **params: Any) -> Object:
        params.setdefault("header_params", {})
        params.setdefault("query_params", [])
        try:
            response = await self._dynamic.request(
                method, path, serialize=False, _request_timeout=REQUEST_TIMEOUT, **params
            )
            result: Object = json.loads(await response.read())
        except DynamicApiError as exc:
            raise _translate(exc, method, path) from exc
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise ClusterError(f"{method.upper()} {path}: {type(exc).__name__}: {exc}") from exc
        return result


_ERRORS = {400: InvalidError, 403: ForbiddenError, 404: NotFoundError, 409: ConflictError, 422: InvalidError}


def _translate(exc: DynamicApiError, method: str, path: str) -> ClusterError:
    status = int(exc.status or 0)
    body = exc.body.decode(errors="replace") if isinstance(exc.body, bytes) else str(exc.body or "")
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body or str(exc.reason)
    return _ERRORS.get(status, ClusterError)(f"{method.upper()} {path}: {message}", status)
