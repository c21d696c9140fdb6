"""When an object counts as applied, and what a status patch must say."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelloop.cluster.equality import contains, is_applied, merge_patch, with_applied_hash
from modelloop.cluster.slim import slim
from tests.unit.operator_tests.operator_states import deployment_spec
from tests.unit.operator_tests.test_desired_objects import build_all

Object = dict[str, Any]
LEAVES = st.one_of(st.booleans(), st.integers(-3, 3), st.text(max_size=3), st.floats(-1, 1))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


def apply_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_patch(result.get(key), value)
    return result


@given(old=OBJECTS, new=OBJECTS)
def test_the_merge_patch_turns_the_old_object_into_the_new_one(old: Object, new: Object) -> None:
    before = copy.deepcopy((old, new))
    patch = merge_patch(old, new)
    assert apply_patch(old, patch) == new
    assert (old, new) == before
    assert (patch == {}) == (old == new)


@given(desired=OBJECTS, extra=OBJECTS)
def test_an_object_contains_itself_and_itself_with_defaults(desired: Object, extra: Object) -> None:
    assert contains(desired, desired)
    assert contains({**extra, **desired}, desired)


@given(desired=OBJECTS, change=VALUES, key=st.sampled_from("abcd"))
def test_a_changed_field_is_seen(desired: Object, change: Any, key: str) -> None:
    if key not in desired or contains(change, desired[key]):
        return
    assert not contains({**desired, key: change}, desired)


@pytest.mark.parametrize(
    ("observed", "desired", "same"),
    [
        ("1", "1000m", True),
        ("700m", "0.7", True),
        ("1Gi", "1024Mi", True),
        (1, "1", True),
        ("1", "1001m", False),
        ("a", "b", False),
        (None, {}, True),
        (None, [], True),
        (None, {"a": 1}, False),
        (None, False, False),
        ([1, 2], [1], False),
        ([{"a": 1, "default": 2}], [{"a": 1}], True),
        (True, "1", False),
    ],
)
def test_what_the_api_server_writes_in_its_own_words_is_the_same(observed: Any, desired: Any, same: bool) -> None:
    assert contains(observed, desired) is same


def stored(kind: str, desired: Object) -> Object:
    """What the cache holds after `desired` was applied."""
    body = copy.deepcopy(with_applied_hash(desired))
    body["metadata"] |= {"resourceVersion": "1", "uid": "x", "generation": 1}
    if kind == "Deployment":
        body["spec"] |= {"progressDeadlineSeconds": 600}
        body["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
        body["status"] = {"replicas": 1}
    return slim(kind, body)


KINDS = [kind for kind in build_all() if kind != "Job"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_applied_is_applied_even_with_defaults_and_a_status(kind: str) -> None:
    desired = build_all()[kind]
    before = copy.deepcopy(desired)
    assert is_applied(with_applied_hash(desired), stored(kind, desired))
    assert desired == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["label", "owner", "hash"])
def test_what_somebody_took_away_is_seen(kind: str, part: str) -> None:
    desired = build_all()[kind]
    held = stored(kind, desired)
    if part == "label":
        held["metadata"]["labels"].pop("app.kubernetes.io/part-of")
    elif part == "hash":
        held["metadata"].pop("annotations")
    elif "ownerReferences" in held["metadata"]:
        held["metadata"]["ownerReferences"] = []
    else:
        return
    assert not is_applied(with_applied_hash(desired), held)


def test_a_field_that_is_no_longer_wanted_is_seen() -> None:
    with_zone = build_all(timeZone="Europe/Berlin")["CronJob"]
    without = build_all()["CronJob"]
    assert not is_applied(with_applied_hash(without), stored("CronJob", with_zone))


def test_a_field_that_somebody_changed_is_seen() -> None:
    desired = build_all()["Deployment"]
    held = stored("Deployment", desired)
    held["spec"]["replicas"] = 7
    assert not is_applied(with_applied_hash(desired), held)
    assert deployment_spec().replicas == 1


def test_a_template_hash_that_somebody_changed_is_seen() -> None:
    desired = build_all()["Deployment"]
    held = stored("Deployment", desired)
    held["metadata"]["annotations"]["modelloop.dev/template-hash"] = "forged"
    assert not is_applied(with_applied_hash(desired), held)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hash_follows_from_the_object_alone(kind: str) -> None:
    assert with_applied_hash(build_all()[kind]) == with_applied_hash(build_all()[kind])
