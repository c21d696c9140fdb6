"""Who may reach a ModelDeployment's pods, as in a NetworkPolicy."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelloop.api.common import ApiModel, cel, validations

_LABEL_KEY_PATTERN = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_CIDR_PATTERN = "^[0-9a-fA-F.:]+/[0-9]{1,3}$"

LabelKey = Annotated[
    str,
    Field(
        max_length=317,
        json_schema_extra=validations(
            cel(f"self.matches('{_LABEL_KEY_PATTERN}')", "must be a label such as topology.kubernetes.io/zone")
        ),
    ),
]
Cidr = Annotated[
    str,
    Field(
        max_length=49,
        json_schema_extra=validations(cel(f"self.matches('{_CIDR_PATTERN}')", "must be a CIDR such as 10.0.0.0/8")),
    ),
]


class LabelRequirement(ApiModel):
    """What a label must be."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)",
                "values must be set with operator In and NotIn, and with no other",
            )
        )
    )

    key: Annotated[LabelKey, Field(description="The label.")]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...],
        Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()


class LabelSelector(ApiModel):
    """As in a NetworkPolicy; an empty one selects everything."""

    match_labels: Annotated[
        dict[str, Annotated[str, Field(max_length=63)]],
        Field(description="Labels and their values; all must be there.", json_schema_extra={"maxProperties": 32}),
    ] = {}
    match_expressions: Annotated[
        tuple[LabelRequirement, ...],
        Field(
            max_length=16,
            description="All must hold.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class IpBlock(ApiModel):
    """A range of addresses."""

    cidr: Annotated[Cidr, Field(description="The range.")]
    excepted: Annotated[
        tuple[Cidr, ...],
        Field(
            max_length=16,
            alias="except",
            description="Ranges within it that are left out.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class Peer(ApiModel):
    """Pods, namespaces or addresses, as in a NetworkPolicy."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",
                "must set podSelector, namespaceSelector or ipBlock",
            ),
            cel(
                "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
                "ipBlock must not be set with podSelector or namespaceSelector",
            ),
        )
    )

    pod_selector: Annotated[
        LabelSelector | None,
        Field(description="Pods; those of this namespace unless namespaceSelector says otherwise. {} for all."),
    ] = None
    namespace_selector: Annotated[
        LabelSelector | None, Field(description="Namespaces whose pods are meant. {} for all.")
    ] = None
    ip_block: Annotated[IpBlock | None, Field(description="Addresses from outside of the cluster.")] = None


class NetworkAccess(ApiModel):
    """Who may connect to the pods' HTTP and gRPC ports. Where they connect to isn't restricted."""

    peers: Annotated[
        tuple[Peer, ...],
        Field(
            max_length=32,
            alias="from",
            description="Prometheus' namespace must be among them to be able to scrape. Not set: the pods of this "
            "namespace; []: nobody but the deployment's own pods and the operator.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = (Peer(pod_selector=LabelSelector()),)
