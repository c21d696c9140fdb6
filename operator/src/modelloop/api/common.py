"""Types that the three kinds share. The pydantic models here are the only source of the CRDs' schemas.

Models are frozen and parse what the API server stores; the API server has already validated it against the same
schema, so an unknown field (a newer CRD under an older operator) is ignored here.
"""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "modelloop.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
DNS_LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
IMAGE_PATTERN = r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$"
QUANTITY_PATTERN = r"^[0-9]+([.][0-9]+)?([mkMGTPE]|[KMGTPE]i)?$"


def cel(rule: str, message: str, field_path: str | None = None) -> dict[str, Any]:
    """One entry of `x-kubernetes-validations`; `message` is what `kubectl apply` prints."""
    entry = {"rule": rule, "message": message}
    return entry | {"fieldPath": field_path} if field_path else entry


def validations(*rules: dict[str, Any]) -> dict[str, Any]:
    """`json_schema_extra` for a model or field with CEL rules."""
    return {"x-kubernetes-validations": list(rules)}


class ApiModel(BaseModel):
    """Base of every API type: frozen, camelCase on the wire."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


def duration_between(low: str, high: str) -> dict[str, Any]:
    """`json_schema_extra` of a duration with bounds."""
    return _duration(
        cel(
            # How it is written is judged by the other rule: CEL reads units that the API doesn't.
            f"!self.matches('{DURATION_PATTERN}') || "
            f"(duration(self) >= duration('{low}') && duration(self) <= duration('{high}'))",
            f"must be from {low} to {high}",
        )
    )


def quantity_between(low: str, high: str) -> dict[str, Any]:
    """`json_schema_extra` of a quantity with bounds."""
    return _quantity(
        cel(
            f"!isQuantity(string(self)) || (quantity(string(self)).compareTo(quantity('{low}')) >= 0 && "
            f"quantity(string(self)).compareTo(quantity('{high}')) <= 0)",
            f"must be from {low} to {high}",
        )
    )


def _duration(*rules: dict[str, str]) -> dict[str, Any]:
    form = cel(f"self.matches('{DURATION_PATTERN}')", "must be a duration such as 90s, 15m or 24h")
    return {"maxLength": 24, **validations(form, *rules)}


def _quantity(*rules: dict[str, str]) -> dict[str, Any]:
    form = cel(
        f"type(self) == string ? self.matches('{QUANTITY_PATTERN}') : self >= 0",
        "must be a quantity such as 500m, 2 or 1Gi",
    )
    return {"x-kubernetes-int-or-string": True, "maxLength": 32, **validations(form, *rules)}


Duration = Annotated[str, Field(json_schema_extra=_duration())]
# Rules rather than patterns: a pattern's message is a regular expression.
Name = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=validations(
            cel(
                f"self.matches('{DNS_LABEL_PATTERN}')",
                "must be a name of lower-case letters, digits and dashes such as my-model",
            )
        ),
    ),
]
Image = Annotated[
    str,
    Field(
        max_length=512,
        json_schema_extra=validations(
            cel(
                f"self.matches('{IMAGE_PATTERN}')",
                "must be an image such as registry.example.com/team/server:1.2",
            )
        ),
    ),
]
Quantity = Annotated[int | str, Field(json_schema_extra=_quantity())]

_DURATION_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_DURATION_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> timedelta:
    """A duration of the API, such as `1h30m`, as a timedelta. The schema has checked the form."""
    seconds = sum(float(amount) * _DURATION_UNIT[unit] for amount, unit in _DURATION_PART.findall(text))
    return timedelta(seconds=seconds)


class LocalRef(ApiModel):
    """A reference to an object in the same namespace."""

    name: Annotated[Name, Field(description="Name of the object, in the same namespace.")]


class Resources(ApiModel):
    """Compute resources of the main container, as in a Pod."""

    requests: Annotated[
        dict[str, Quantity],
        Field(description="What the scheduler sets aside.", json_schema_extra={"maxProperties": 16}),
    ] = {}
    limits: Annotated[
        dict[str, Quantity],
        Field(description="What the container may use at most.", json_schema_extra={"maxProperties": 16}),
    ] = {}


class Storage(ApiModel):
    """Where model versions, captured requests and reports are kept."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.uri.startsWith('s3://') || !has(self.secretRef)",
                "secretRef must be used with an s3:// uri only",
            ),
        )
    )

    uri: Annotated[
        str,
        Field(
            max_length=512,
            description="`pvc://<claim>` or `s3://<bucket>/<prefix>`. The default claim is made on demand, one per "
            "namespace.",
            json_schema_extra=validations(
                cel(
                    "self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?$') || "
                    "self.matches('^s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](/.*)?$')",
                    "must be pvc://<claim> or s3://<bucket>/<prefix>",
                )
            ),
        ),
    ] = "pvc://modelloop-store"
    secret_ref: Annotated[
        LocalRef | None,
        Field(
            description="Secret with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where needed, AWS_REGION and "
            "AWS_ENDPOINT_URL. Pods mount it by name; the operator never reads it."
        ),
    ] = None


class Condition(ApiModel):
    """A condition as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=316)]
    status: Annotated[str, Field(json_schema_extra={"enum": ["True", "False", "Unknown"]})]
    reason: Annotated[str, Field(max_length=1024)]
    message: Annotated[str, Field(max_length=32768)] = ""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    last_transition_time: AwareDatetime


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        description="The state in words; `Ready` sums up.",
        json_schema_extra={
            "maxItems": 16,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    ),
]

MetricValues = Annotated[dict[str, float], Field(max_length=32)]


class VersionStatus(ApiModel):
    """A stored, approved model version."""

    number: Annotated[int, Field(ge=1, description="Number of the run that made it.")]
    path: Annotated[str, Field(max_length=512, description="Directory below the store's root.")]
    digest: Annotated[str, Field(max_length=80, description="sha256 of its manifest.json.")]
    storage: Annotated[Storage, Field(description="Where it is stored, whatever the spec says by now.")] = Storage()
    signing_secret: Annotated[
        str | None, Field(max_length=63, description="Secret of the key pair that signed it; None: it isn't signed.")
    ] = None

    def version_fields(self) -> dict[str, Any]:
        """The fields of a version alone, for a model that has others beside them."""
        return {name: getattr(self, name) for name in VersionStatus.model_fields}
