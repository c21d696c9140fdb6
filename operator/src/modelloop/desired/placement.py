"""Builds where pods may run, and when those of a run may: node selection, queue, deadline."""

import copy
import math
from typing import Any

from modelloop.api.common import parse_duration
from modelloop.api.lifecycle import Lifecycle
from modelloop.api.placement import Placement
from modelloop.desired.labels import QUEUE


def build_placement(spec: Placement) -> dict[str, Any]:
    """The part of a pod's spec that selects its node; only what the spec states."""
    tolerations = [entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in spec.tolerations]
    fields: dict[str, Any] = {
        "nodeSelector": dict(spec.node_selector),
        "tolerations": tolerations,
        "affinity": copy.deepcopy(spec.affinity),
        "priorityClassName": spec.priority_class_name,
        "runtimeClassName": spec.runtime_class_name,
    }
    return {name: value for name, value in fields.items() if value}


def build_queueing(spec: Lifecycle) -> dict[str, str]:
    """Labels of a Job that Kueue starts."""
    return {QUEUE: spec.queue_name} if spec.queue_name else {}


def build_timing(spec: Lifecycle) -> dict[str, Any]:
    """The part of a Job's spec that says when it begins and how long it may take."""
    fields: dict[str, Any] = {"suspend": True} if spec.queue_name else {}
    if spec.deadline is not None:
        # Jobs count in whole seconds, and at least one.
        fields["activeDeadlineSeconds"] = max(1, math.ceil(parse_duration(spec.deadline).total_seconds()))
    return fields
