"""An in-memory API server for the operator's writes: resourceVersions, preconditions, merge patches, refusals."""

import copy
import zlib
from typing import Any

from modelloop.cluster.resources import Resource
from modelloop.errors import ConflictError, ForbiddenError, NotFoundError
from tests.unit.operator_tests.test_cluster_equality import apply_patch

Object = dict[str, Any]


def address_of(name: str) -> str:
    """An address of a Service or pod, the same each time."""
    number = zlib.crc32(name.encode())
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class CrashError(BaseException):
    """The process is killed: nothing of it may handle this."""


class ApiServer:
    """Stands in for `modelloop.cluster.client.Client`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.version = 100
        self.writes: list[str] = []
        self.refused: set[str] = set()
        """What a quota refuses: a kind, or `kind/name`."""
        self.crash_after: int | None = None
        """Kill the caller after this many writes, when they are stored and not yet answered."""

    def add(self, body: Object) -> Object:
        """Store what somebody else wrote."""
        metadata = body["metadata"]
        return self._store((body["kind"], metadata["namespace"], metadata["name"]), copy.deepcopy(body))

    def change(self, kind: str, name: str, **parts: Object) -> Object:
        """Merge parts, such as a status, into an object, as its controller would."""
        key = (kind, "team", name)
        return self._store(key, apply_patch(self.objects[key], parts))

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return copy.deepcopy(self._find(resource, namespace, name))

    async def apply(self, resource: Resource, body: Object) -> Object:
        key = (resource.kind, body["metadata"]["namespace"], body["metadata"]["name"])
        self._admit(resource.kind, key[2])
        held = self.objects.get(key, {})
        return self._write("apply", key, apply_patch(held, body))

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        key = (resource.kind, namespace, body["metadata"]["name"])
        self._admit(resource.kind, key[2])
        if key in self.objects:
            raise ConflictError(f"POST {key[2]}: already exists", 409)
        return self._write("create", key, copy.deepcopy(body))

    def _admit(self, kind: str, name: str) -> None:
        if self.refused & {kind, f"{kind}/{name}"}:
            raise ForbiddenError(f"{kind} {name}: exceeded quota", 403)

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        held = self._find(resource, namespace, name)
        if patch["metadata"]["resourceVersion"] != held["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", 409)
        status = apply_patch(held.get("status", {}), patch["status"])
        return self._write("status", (resource.kind, namespace, name), {**held, "status": status})

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        held = self._find(resource, namespace, name)
        return self._write("patch", (resource.kind, namespace, name), apply_patch(held, patch))

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None = None) -> None:
        held = self.objects.get((resource.kind, namespace, name))
        if held is not None:
            if uid not in (None, held["metadata"]["uid"]):
                raise ConflictError("the UID in the precondition isn't the object's", 409)
            del self.objects[resource.kind, namespace, name]
            self._count(f"delete {resource.kind}/{name}")

    def _find(self, resource: Resource, namespace: str, name: str) -> Object:
        found = self.objects.get((resource.kind, namespace, name))
        if found is None:
            raise NotFoundError(f"{resource.kind} {name} not found", 404)
        return found

    def _write(self, verb: str, key: tuple[str, str, str], body: Object) -> Object:
        before = self.objects.get(key)
        if before is not None and {**before} == body:
            return copy.deepcopy(before)
        stored = self._store(key, body)
        self._count(f"{verb} {key[0]}/{key[2]}")
        return stored

    def _count(self, write: str) -> None:
        self.writes.append(write)
        if self.crash_after is not None and len(self.writes) >= self.crash_after:
            self.crash_after = None
            raise CrashError(write)

    def _store(self, key: tuple[str, str, str], body: Object) -> Object:
        self.version += 1
        before = self.objects.get(key)
        if key[0] == "Service":
            body = {**body, "spec": {"clusterIP": address_of(f"Service/{key[2]}"), **body["spec"]}}
        metadata = body["metadata"] = {**body["metadata"], "resourceVersion": str(self.version)}
        metadata.setdefault("uid", f"uid-{key[0]}-{key[2]}")
        metadata.setdefault("creationTimestamp", "2026-03-01T12:00:00Z")
        changed = before is None or before.get("spec") != body.get("spec")
        metadata["generation"] = (before["metadata"]["generation"] if before else 0) + int(changed)
        self.objects[key] = body
        return copy.deepcopy(body)
