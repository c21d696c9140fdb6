"""What users bring themselves to a training: an image that prepares the data, one that trains, a key that signs."""

from typing import Annotated, Any

from pydantic import Field

from modelloop.api.common import ApiModel, Image, LocalRef, Name, Resources, cel

_VARIABLE_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"

Words = tuple[Annotated[str, Field(max_length=8192)], ...]
"""A command or its arguments, as in a Pod's container."""


class Variable(ApiModel):
    """An environment variable."""

    name: Annotated[
        str,
        Field(
            max_length=128,
            json_schema_extra={
                "x-kubernetes-validations": [
                    cel(f"self.matches('{_VARIABLE_PATTERN}')", "must be a variable's name such as BATCH_SIZE")
                ]
            },
        ),
    ]
    value: Annotated[str, Field(max_length=8192)] = ""


Variables = Annotated[
    tuple[Variable, ...],
    Field(
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    ),
]


class UsersContainer(ApiModel):
    """A container of an image of the user's own, as far as it is the same wherever it runs."""

    image: Annotated[Image, Field(description="Any image; it runs as user 65532 with a read-only root.")]
    command: Annotated[
        Words, Field(max_length=64, description="Instead of the image's entry point, as in a container.")
    ] = ()
    args: Annotated[Words, Field(max_length=64, description="Instead of the image's arguments.")] = ()
    env: Variables = ()
    secret_ref: Annotated[
        LocalRef | None, Field(description="Secret whose keys become environment variables under their own names.")
    ] = None
    resources: Resources = Resources()


class Prepare(UsersContainer):
    """An image that runs before anything else of a run and writes what `work://<path>` reads."""

    env: Annotated[
        Variables,
        Field(
            description="Beside MODELLOOP_WORK, the folder to write to, MODELLOOP_NAME, MODELLOOP_NAMESPACE and "
            "MODELLOOP_RUN."
        ),
    ] = ()
    claim_ref: Annotated[
        LocalRef | None,
        Field(description="PersistentVolumeClaim that is mounted, read-only, at /var/lib/modelloop/data/<name>."),
    ] = None


class SigningKey(ApiModel):
    """The Secret of an elliptic curve key pair (P-256 or P-384) in PEM, under the keys private.pem and public.pem."""

    secret_name: Annotated[Name, Field(description="Name of the Secret, in the same namespace.")]


class OwnImages(ApiModel):
    """The part of a ModelTraining's spec that brings images and keys of the user's own."""

    prepare: Annotated[Prepare | None, Field(description="An image that makes the data, such as an ETL job.")] = None
    command: Annotated[
        Words,
        Field(
            max_length=64,
            description="Command of `image`, which then trains the model by itself, in any framework, under the "
            "contract of custom training; takes the place of candidates.",
        ),
    ] = ()
    args: Annotated[Words, Field(max_length=64, description="Arguments of the command.")] = ()
    params: Annotated[
        dict[str, Any],
        Field(
            description="Handed to the command in its config.json, as they are.",
            json_schema_extra={
                "additionalProperties": None,
                "x-kubernetes-preserve-unknown-fields": True,
                "maxProperties": 64,
            },
        ),
    ] = {}
    sign: Annotated[
        SigningKey | None,
        Field(description="Signs each version's manifest with private.pem; deployments verify it with public.pem."),
    ] = None


CUSTOM_RULES = (
    cel(
        "size(self.candidates) > 0 || size(self.command) > 0",
        "candidates must name an estimator at least, or command must train the model",
    ),
    cel("size(self.candidates) == 0 || size(self.command) == 0", "candidates must not be set with command"),
    cel("size(self.command) == 0 || has(self.image)", "image must be set with command"),
    cel("size(self.command) == 0 || has(self.task)", "task must be set with command"),
    cel("size(self.args) == 0 || size(self.command) > 0", "args must be used with command"),
    cel(
        "size(self.command) == 0 || !(has(self.compress) || has(self.featureSelection) || self.tuning.parallelism > 1)",
        "compress, featureSelection and tuning.parallelism must not be set with command",
    ),
    cel(
        "!has(self.prepare) || !has(self.prepare.claimRef) || !self.data.uri.startsWith('pvc://')",
        "prepare.claimRef must not be set with a pvc:// uri, whose claim prepare sees anyway",
    ),
    cel("!self.data.uri.startsWith('work://') || has(self.prepare)", "prepare must be set with a work:// uri"),
)
"""For ModelTraining's spec: they span its fields."""
