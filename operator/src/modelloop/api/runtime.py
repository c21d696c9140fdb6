"""Another model server in a ModelDeployment's pods: Triton, TensorFlow Serving, MLServer, vLLM or one's own."""

from typing import Annotated, Literal

from pydantic import Field

from modelkit.contract.environment import GRPC_PORT, HTTP_PORT
from modelkit.contract.files import RUNTIME_MODELS, WORK_MOUNT
from modelloop.api.common import cel, duration_between, validations
from modelloop.api.custom import UsersContainer, Variables

FETCH_CONTAINER = "fetch"
"""The init container that verifies the version and lays it out for the runtime."""
RUNTIME_CONTAINER = "runtime"
TEMPORARY_MOUNT = "/tmp"  # noqa: S108 - a mount of the container's own
_RESERVED = (WORK_MOUNT, TEMPORARY_MOUNT)


class Runtime(UsersContainer):
    """A container that answers instead of our model code; capture, metrics, limits and routing stay ours."""

    port: Annotated[
        int,
        Field(
            ge=1,
            le=65535,
            description="Where it listens for HTTP.",
            json_schema_extra=validations(
                cel(
                    f"!(self in [{HTTP_PORT}, {GRPC_PORT}])",
                    f"must be another port than {HTTP_PORT} and {GRPC_PORT}, where the server listens",
                )
            ),
        ),
    ]
    protocol: Annotated[
        Literal["V2", "V1", "Raw"],
        Field(
            description="What it speaks. V2: the Open Inference Protocol (REST); V1: TensorFlow Serving's REST form; "
            "Raw: something else, and requests are passed on as they are."
        ),
    ] = "V2"
    env: Annotated[Variables, Field(description="Environment variables, beside HOME and TMPDIR.")] = ()
    model_name: Annotated[
        str | None,
        Field(
            max_length=128,
            description="As it knows the model, and as the model's directory is named. Not set: the ModelDeployment's "
            "name.",
            json_schema_extra=validations(
                cel(
                    "self.matches('^[A-Za-z0-9_][-A-Za-z0-9._]*(/[A-Za-z0-9_][-A-Za-z0-9._]*)*$')",
                    "must be letters, digits, dots, dashes and underscores, with / between parts, such as churn_v2",
                )
            ),
        ),
    ] = None
    mount_path: Annotated[
        str,
        Field(
            max_length=256,
            description="Where it finds the verified version, read-only: <modelName>/<number of the version>/.",
            json_schema_extra=validations(
                cel(
                    "self.matches('^(/[A-Za-z0-9_][-A-Za-z0-9._]*)+$') && "
                    f"!({list(_RESERVED)}.exists(path, self == path || self.startsWith(path + '/')))",
                    f"must be an absolute path such as /models, and none in {' or '.join(_RESERVED)}",
                )
            ),
        ),
    ] = RUNTIME_MODELS
    readiness_path: Annotated[
        str | None,
        Field(
            max_length=256,
            description="Answered with 200 once it can answer requests. Not set: /v2/health/ready with V2, "
            "/v1/models/<modelName> with V1; with Raw, that it listens is enough.",
            json_schema_extra=validations(
                cel("self.matches('^/[!-~]*$')", "must be a path such as /v2/health/ready"),
            ),
        ),
    ] = None
    startup_timeout: Annotated[
        str,
        Field(
            description="How long it may take to load the model. rollout.progressDeadline must allow for it.",
            json_schema_extra=duration_between("1s", "24h"),
        ),
    ] = "10m"
