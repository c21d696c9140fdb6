"""The operator's hands: reads from the cache, writes to the API server, and keeps the two in step.

Every write's answer goes into the cache at once and wakes whatever depends on it, so that a pass never acts on less
than what the operator itself has written.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from modelloop.api.common import API_VERSION, ApiModel
from modelloop.cluster.cache import Cache, Key, key_of, owners_of
from modelloop.cluster.client import Client
from modelloop.cluster.equality import is_applied, merge_patch, with_applied_hash
from modelloop.cluster.events import EventRecorder
from modelloop.cluster.resources import BY_KIND
from modelloop.cluster.telemetry import WRITES
from modelloop.decide.plan import Event
from modelloop.errors import ConflictError, InvalidError, NotFoundError

Object = dict[str, Any]

CUSTOM_KINDS = ("ModelTraining", "ModelDeployment", "ModelMonitor")


def utc_now() -> datetime:
    """The clock of all decisions: whole seconds, so that a status read back equals what was written."""
    return datetime.now(UTC).replace(microsecond=0)


class Cluster:
    """The API server as the reconcilers see it."""

    def __init__(self, client: Client, cache: Cache, recorder: EventRecorder, wake: Callable[[Key], None]) -> None:
        self.client = client
        self.cache = cache
        self._recorder = recorder
        self._wake = wake

    # -- reading ---------------------------------------------------------------------------------------------------

    def observe(self, kind: str, body: Object) -> bool:
        """Take in a new state of an object and wake what depends on it; an old state changes nothing.

        Nothing is woken when all that decisions may see of it has stayed the same. Says whether the state was new.
        """
        key = key_of(kind, body)
        held = self.cache.get(key)
        if not self.cache.put(kind, body):
            return False
        if held is not None and _is_same(held, self.cache.get(key)):
            return True
        self.wake_dependents(key, body)
        if held is not None:  # a label that was taken away led to an owner that wants it back
            self._wake_all(set(owners_of(held)) - set(owners_of({**body, "kind": kind})), set())
        return True

    def observe_deletion(self, kind: str, body: Object) -> None:
        """Take in that an object is gone."""
        if self.cache.remove(kind, body):
            self.wake_dependents(key_of(kind, body), {**body, "kind": kind})

    def wake_dependents(self, key: Key, body: Object) -> None:
        """Wake the object itself, what it belongs or refers to, and what refers to it."""
        seen: set[Key] = set()
        self._wake_all((key, *owners_of({**body, "kind": key.kind})), seen)
        if key.kind in CUSTOM_KINDS:
            for kind in CUSTOM_KINDS:
                for child in self.cache.children(key, kind):
                    child_key = key_of(kind, child)
                    self._wake_all((child_key,), seen)
                    for grandchild in self.cache.children(child_key, "ModelMonitor"):
                        self._wake_all((key_of("ModelMonitor", grandchild),), seen)

    def _wake_all(self, keys: Iterable[Key], seen: set[Key]) -> None:
        for key in keys:
            if key.kind in CUSTOM_KINDS and key not in seen:
                seen.add(key)
                self._wake(key)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def apply(self, desired: Object) -> Object:
        """Make an object as desired by server-side apply; nothing is sent when it already is.

        Raises InvalidError for an object of that name that somebody else owns: applying would take it over.
        """
        kind, body = desired["kind"], with_applied_hash(desired)
        key = key_of(kind, body)
        held = self.cache.get(key)
        if held is not None and is_applied(body, held):
            return held
        found = held or await self.find(key)
        if found is not None:
            _require_own(desired, found)
        answer = await self.client.apply(BY_KIND[kind], body)
        WRITES.labels(kind, "apply").inc()
        self.observe(kind, answer)
        return answer

    async def apply_once(self, desired: Object) -> None:
        """Make an object that never changes after its creation; nothing is sent when it is there.

        A plain create, which costs the API server half of what an apply does. Raises as `apply`.
        """
        kind, key = desired["kind"], key_of(desired["kind"], desired)
        if self.cache.get(key) is not None:
            return
        try:
            answer = await self.client.create(BY_KIND[kind], key.namespace, with_applied_hash(desired))
            WRITES.labels(kind, "create").inc()
        except ConflictError:
            found = await self.find(key)
            if found is None:
                raise  # not this object, but the quota that counts it, was written by somebody else
            _require_own(desired, found)
            answer = found
        self.observe(kind, answer)

    async def find(self, key: Key) -> Object | None:
        """Ask for an object that the cache may not hold: the watches tell of labelled ones only."""
        try:
            return await self.client.get(BY_KIND[key.kind], key.namespace, key.name)
        except NotFoundError:
            return None

    async def patch(self, kind: str, namespace: str, name: str, patch: Object) -> None:
        """Merge-patch a child; one that is gone is fine."""
        try:
            answer = await self.client.patch(BY_KIND[kind], namespace, name, patch)
        except NotFoundError:
            return
        WRITES.labels(kind, "patch").inc()
        self.observe(kind, answer)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Delete a child that the cache holds."""
        held = self.cache.get(Key(kind, namespace, name))
        if held is None or "deletionTimestamp" in held["metadata"]:
            return
        left = await self.client.delete(BY_KIND[kind], namespace, name, uid=held["metadata"]["uid"])
        WRITES.labels(kind, "delete").inc()
        if left is not None:
            self.observe(kind, left)
        else:
            self.cache.remove(kind, held)

    async def patch_status(
        self, key: Key, body: Object, old: ApiModel, new: ApiModel, exclude: frozenset[str] = frozenset()
    ) -> Object:
        """Write the difference between two statuses, on the condition that nobody wrote in between.

        Returns the custom resource as it is afterwards. Raises ConflictError after refreshing the cache. `exclude`
        names fields that another writer owns.
        """
        if old == new:
            return body
        patch = merge_patch(_dump(old, exclude), _dump(new, exclude))
        if not patch:
            return body
        metadata = {"resourceVersion": body["metadata"]["resourceVersion"]}
        full = {"apiVersion": API_VERSION, "kind": key.kind, "metadata": metadata, "status": patch}
        resource = BY_KIND[key.kind]
        try:
            answer = await self.client.patch_status(resource, key.namespace, key.name, full)
        except ConflictError:
            self.observe(key.kind, await self.client.get(resource, key.namespace, key.name))
            raise
        WRITES.labels(key.kind, "status").inc()
        self.observe(key.kind, answer)
        return self.cache.get(key) or body

    def record(self, kind: str, body: Object, events: Iterable[Event]) -> None:
        """Post Events about a custom resource."""
        for event in events:
            self._recorder.record(kind, body, event)


def _is_same(held: Object, kept: Object | None) -> bool:
    """Whether two slim states differ in nothing but their versions."""
    if kept is None:
        return False
    metadata = {**held["metadata"], "resourceVersion": kept["metadata"].get("resourceVersion")}
    return {**held, "metadata": metadata} == kept


def _require_own(desired: Object, found: Object) -> None:
    owners = {owner["uid"] for owner in found["metadata"].get("ownerReferences", [])}
    if any(owner["uid"] not in owners for owner in desired["metadata"].get("ownerReferences", [])):
        name = desired["metadata"]["name"]
        raise InvalidError(
            f"{desired['kind']} {name!r} exists already and belongs to somebody else; delete or rename it"
        )


def _dump(status: ApiModel, exclude: frozenset[str]) -> Object:
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(exclude))
