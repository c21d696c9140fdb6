"""A slim in-memory picture of what the operator watches. Holds the newest state that was seen or written.

What the operator writes is put here from the API server's answer, so that a pass always reads its own writes; an
event that is older than what is held is dropped, by resourceVersion (comparable since KEP-5504; all API servers on
etcd have always given them in order).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from modelloop.cluster.slim import slim
from modelloop.desired.labels import OWNER_LABELS

Object = dict[str, Any]
MAX_TOMBSTONES = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object: its kind, namespace and name."""

    kind: str
    namespace: str
    name: str


def key_of(kind: str, body: Object) -> Key:
    """The key of an object."""
    metadata = body["metadata"]
    return Key(kind, metadata.get("namespace", ""), metadata["name"])


def version_of(body: Object) -> int:
    """The resourceVersion as a number."""
    return int(body["metadata"].get("resourceVersion", "0"))


def owners_of(body: Object) -> tuple[Key, ...]:
    """What an object depends on: the custom resources whose label it carries, or that its spec refers to."""
    metadata = body["metadata"]
    namespace, labels = metadata.get("namespace", ""), metadata.get("labels") or {}
    owners = [Key(kind, namespace, labels[label]) for kind, label in OWNER_LABELS.items() if label in labels]
    spec, status = body.get("spec", {}), body.get("status", {})
    match body.get("kind"):
        case "ModelDeployment":
            owners.append(Key("ModelTraining", namespace, spec.get("trainingRef", {}).get("name", "")))
        case "ModelMonitor":
            owners.append(Key("ModelDeployment", namespace, spec.get("deploymentRef", {}).get("name", "")))
            if retrain := status.get("retrain"):
                owners.append(Key("ModelTraining", namespace, retrain.get("training", "")))
    return tuple(owners)


class Cache:
    """Objects by key, and children by owner."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Object]] = defaultdict(dict)
        self._children: dict[Key, dict[str, set[Key]]] = defaultdict(dict)
        self._tombstones: dict[Key, int] = {}

    def put(self, kind: str, body: Object) -> bool:
        """Hold `body` when it is newer than what is held; says whether it was."""
        key, version = key_of(kind, body), version_of(body)
        held = self._objects[kind].get(key)
        if held is not None and version <= version_of(held):
            return False
        if version <= self._tombstones.get(key, -1):
            return False
        if held is not None:
            self._unlink(key, held)
        kept = slim(kind, body)
        self._objects[kind][key] = kept
        for owner in owners_of(kept):
            self._children[owner].setdefault(kind, set()).add(key)
        return True

    def remove(self, kind: str, body: Object) -> bool:
        """Forget a deleted object; `body` is its last state. Says whether something newer wasn't held."""
        key, version = key_of(kind, body), version_of(body)
        held = self._objects[kind].get(key)
        if held is not None and version < version_of(held):
            return False
        self.forget(key)
        self._tombstones[key] = max(version, self._tombstones.get(key, -1))
        if len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]
        return True

    def forget(self, key: Key) -> None:
        """Drop what is held under `key`."""
        held = self._objects[key.kind].pop(key, None)
        if held is not None:
            self._unlink(key, held)

    def _unlink(self, key: Key, held: Object) -> None:
        for owner in owners_of(held):
            kinds = self._children.get(owner, {})
            kinds.get(key.kind, set()).discard(key)
            if not any(kinds.values()):
                self._children.pop(owner, None)

    def get(self, key: Key) -> Object | None:
        """What is held under `key`. Callers must not change it."""
        return self._objects[key.kind].get(key)

    def children(self, owner: Key, kind: str) -> list[Object]:
        """Objects of `kind` that belong or refer to `owner`, by name."""
        keys = self._children.get(owner, {}).get(kind, set())
        return [self._objects[kind][key] for key in sorted(keys)]

    def all(self, kind: str) -> Iterator[tuple[Key, Object]]:
        """Every object of `kind`."""
        yield from list(self._objects[kind].items())

    def keys(self, kind: str) -> set[Key]:
        """Keys of every object of `kind`."""
        return set(self._objects[kind])

    def count(self, kind: str) -> int:
        """How many objects of `kind` are held."""
        return len(self._objects[kind])
