"""A plain, synchronous client of the API server for tests: dicts in, dicts out, errors with the server's own words."""

import base64
import json
import ssl
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml

from modelloop.cluster.resources import BY_KIND, Resource

Object = dict[str, Any]
T = TypeVar("T")

RESOURCES = BY_KIND | {
    kind: Resource(kind, group, "v1", plural)
    for kind, group, plural in (
        ("Namespace", "", "namespaces"),
        ("Secret", "", "secrets"),
        ("ConfigMap", "", "configmaps"),
        ("ResourceQuota", "", "resourcequotas"),
        ("Binding", "", "bindings"),
        ("EndpointSlice", "discovery.k8s.io", "endpointslices"),
        ("APIService", "apiregistration.k8s.io", "apiservices"),
        ("ReplicaSet", "apps", "replicasets"),
        ("ClusterRole", "rbac.authorization.k8s.io", "clusterroles"),
        ("ClusterRoleBinding", "rbac.authorization.k8s.io", "clusterrolebindings"),
        ("CustomResourceDefinition", "apiextensions.k8s.io", "customresourcedefinitions"),
    )
}
MANAGER = "tests"


class ApiError(Exception):
    """The API server refused; `str()` is its message, as kubectl prints it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def connection_of(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    """The server's URL, and a TLS context that trusts it and logs in with the kubeconfig's certificate."""
    config = yaml.safe_load(kubeconfig.read_text())
    (cluster,), (user,) = config["clusters"], config["users"]
    authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module takes certificates from files only
        certificate, key = (Path(folder) / part for part in ("client-certificate-data", "client-key-data"))
        for path in (certificate, key):
            path.write_bytes(base64.b64decode(user["user"][path.name]))
        context.load_cert_chain(certificate, key)
    return cluster["cluster"]["server"], context


def server_context(kubeconfig: Path) -> ssl.SSLContext:
    """A TLS context that trusts the server and logs nobody in."""
    (cluster,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    return ssl.create_default_context(
        cadata=base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    )


class Api:
    """Requests to one API server as one user. Safe to share between threads."""

    def __init__(self, server: str, context: ssl.SSLContext, token: str | None = None) -> None:
        self._client = httpx.Client(
            base_url=server,
            verify=context,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=30.0,
            trust_env=False,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Object:
        """One request; raises ApiError for every answer from 400 on."""
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if content is not None else {}
        answer = self._client.request(method, path, content=content, headers=headers, params=query)
        if answer.status_code >= httpx.codes.BAD_REQUEST:
            try:
                message = answer.json()["message"]
            except (ValueError, KeyError, TypeError):
                message = answer.text
            raise ApiError(answer.status_code, message)
        result: Object = answer.json()
        return result

    def get(self, kind: str, namespace: str | None, name: str, subresource: str | None = None) -> Object:
        """One object; raises ApiError 404."""
        return self.request("GET", RESOURCES[kind].path(namespace, name, subresource))

    def evict(self, pod: Object) -> bool:
        """Evict a pod as `kubectl drain` does; False when a disruption budget doesn't allow it now."""
        metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
        path = RESOURCES["Pod"].path(metadata["namespace"], metadata["name"], "eviction")
        try:
            self.request("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
        except ApiError as exc:
            if exc.status == httpx.codes.TOO_MANY_REQUESTS:
                return False
            raise
        return True

    def find(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """One object, or None."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as exc:
            if exc.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        """All objects of a kind, by name."""
        query = {"labelSelector": selector} if selector else {}
        items = self.request("GET", RESOURCES[kind].path(namespace), **query).get("items") or []
        return sorted(items, key=lambda item: item["metadata"]["name"])

    def apply(self, body: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply with the strict field validation that kubectl asks for."""
        metadata = body["metadata"]
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self.request(
            "PATCH",
            RESOURCES[body["kind"]].path(metadata.get("namespace"), metadata["name"]),
            body,
            "application/apply-patch+yaml",
            **query,
            **({"dryRun": "All"} if dry_run else {}),
        )

    def create(self, body: Object, *, dry_run: bool = False) -> Object:
        """POST with strict field validation."""
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return self.request("POST", RESOURCES[body["kind"]].path(body["metadata"].get("namespace")), body, **query)

    def patch(
        self, kind: str, namespace: str | None, name: str, patch: Object, subresource: str | None = None
    ) -> Object:
        """JSON merge patch."""
        path = RESOURCES[kind].path(namespace, name, subresource)
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, kind: str, namespace: str | None, name: str, **options: Any) -> None:
        """Delete in the background; an object that is gone is fine."""
        try:
            self.request("DELETE", RESOURCES[kind].path(namespace, name), {"propagationPolicy": "Background"} | options)
        except ApiError as exc:
            if exc.status != httpx.codes.NOT_FOUND:
                raise

    def token(self, namespace: str, account: str) -> str:
        """A token of a ServiceAccount, from the TokenRequest API as a kubelet gets it."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.request("POST", path, body)["status"]["token"])


def condition_of(body: Object | None, type_: str) -> Object:
    """A condition of an object; empty when it isn't there."""
    conditions = ((body or {}).get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == type_), {})


def wait_for(condition: Callable[[], T | None], timeout: float = 30.0, *, what: str = "", every: float = 0.1) -> T:
    """Ask until the answer is true in Python's sense, and return it; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for {what or 'a condition'}")
        time.sleep(every)


def make_namespace(api: Api) -> str:
    """A new namespace in which Jobs can make pods."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    wait_for(lambda: api.find("ServiceAccount", name, "default"), what=f"the default ServiceAccount of {name}")
    return name
