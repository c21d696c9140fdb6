"""On which nodes pods may run, as in a Pod: what trainings and deployments have in common."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from modelloop.api.common import ApiModel, Name, cel, validations

_LABEL_VALUE_PATTERN = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"


class Toleration(ApiModel):
    """A taint that the pods bear, as in a Pod."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("self.operator != 'Exists' || !has(self.value)", "value must not be set with operator Exists"),
            cel("has(self.key) || self.operator == 'Exists'", "operator must be Exists when there is no key"),
            cel(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds must be used with effect NoExecute",
            ),
        )
    )

    key: Annotated[str | None, Field(max_length=316, description="Of the taint; every taint when not set.")] = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: Annotated[
        str | None,
        Field(
            max_length=63,
            json_schema_extra=validations(
                cel(f"self.matches('{_LABEL_VALUE_PATTERN}')", "must be a label's value such as gpu")
            ),
        ),
    ] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Every effect when not set."),
    ] = None
    toleration_seconds: Annotated[int | None, Field(ge=0, description="How long NoExecute is borne.")] = None


class Placement(ApiModel):
    """The part of a spec that selects the pods' nodes."""

    node_selector: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]],
        Field(
            description="Labels of the nodes that may run the pods.",
            json_schema_extra={"maxProperties": 32},
        ),
    ] = {}
    tolerations: Annotated[
        tuple[Toleration, ...],
        Field(
            max_length=32,
            description="Taints of nodes that the pods bear.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    affinity: Annotated[
        dict[str, Any],
        Field(
            description="As in a Pod: nodeAffinity, podAffinity, podAntiAffinity.",
            json_schema_extra={
                "additionalProperties": None,
                "x-kubernetes-preserve-unknown-fields": True,
                "maxProperties": 3,
            },
        ),
    ] = {}
    priority_class_name: Annotated[Name | None, Field(description="PriorityClass of the pods.")] = None
    runtime_class_name: Annotated[Name | None, Field(description="RuntimeClass of the pods, e.g. for GPUs.")] = None
