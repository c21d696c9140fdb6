"""Tells whether an object is already as desired, and what a status patch must say. Pure."""

from typing import Any

from modelloop.desired.labels import APPLIED_HASH_ANNOTATION
from modelloop.desired.workload import content_hash, parse_quantity

Object = dict[str, Any]


def with_applied_hash(desired: Object) -> Object:
    """`desired` with the hash of itself as an annotation."""
    metadata = desired["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_HASH_ANNOTATION: content_hash(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def is_applied(desired: Object, observed: Object) -> bool:
    """Whether `observed` was applied from `desired` and nobody changed a field of it since.

    The hash sees fields that are no longer wanted, the comparison sees what others have changed.
    """
    for key in ("annotations", "labels"):
        if not contains(observed["metadata"].get(key), desired["metadata"].get(key, {})):
            return False
    if not set(desired["metadata"].get("finalizers", ())) <= set(observed["metadata"].get("finalizers", ())):
        return False
    owners = {owner["uid"] for owner in observed["metadata"].get("ownerReferences", [])}
    if any(owner["uid"] not in owners for owner in desired["metadata"].get("ownerReferences", [])):
        return False
    sections = (key for key in desired if key not in ("apiVersion", "kind", "metadata", "status"))
    return all(contains(observed.get(key), desired[key]) for key in sections)


def contains(observed: Any, desired: Any) -> bool:
    """Whether `observed` has everything that `desired` says; defaults that the API server added don't matter."""
    if isinstance(desired, dict):
        if not isinstance(observed, dict):
            return not desired and observed is None
        return all(contains(observed.get(key), value) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(observed, list):
            return not desired and observed is None
        return len(desired) == len(observed) and all(map(contains, observed, desired))
    return bool(observed == desired) or _same_quantity(observed, desired)


def _same_quantity(observed: Any, desired: Any) -> bool:
    """The API server writes quantities in a canonical form: 1000m comes back as 1."""
    if not isinstance(desired, str | int) or not isinstance(observed, str | int):
        return False
    try:
        return parse_quantity(observed) == parse_quantity(desired)
    except ValueError:
        return False


def merge_patch(old: Object, new: Object) -> Object:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal."""
    patch: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            both = isinstance(old[key], dict) and isinstance(value, dict)
            patch[key] = merge_patch(old[key], value) if both else value
    return patch
