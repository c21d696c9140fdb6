"""How a container of the server image ends when the version can't be served: its exit code, and what it leaves behind.

The kubelet copies the termination log into the pod's status, where the operator reads it.
"""

import json
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from modelkit.artifact.signing import SignatureInvalidError, SignatureMissingError
from modelkit.artifact.version import ArtifactError, DigestMismatchError, VersionNotFoundError
from modelkit.contract.environment import ExitCode
from modelkit.errors import ModelKitError, RefusedError, StoreError, StorePermissionError

_MESSAGE_CHARACTERS = 1000
"""The kubelet cuts at 4,096 bytes."""
_REASONS = MappingProxyType(
    {
        DigestMismatchError: "DigestMismatch",
        VersionNotFoundError: "VersionNotFound",
        SignatureInvalidError: "SignatureInvalid",
        SignatureMissingError: "SignatureMissing",
        ArtifactError: "BadVersion",
        StorePermissionError: "PermissionDenied",
    }
)


def reason_of(error: ModelKitError) -> str:
    """The CamelCase reason that ends in the ModelDeployment's condition."""
    return error.reason if isinstance(error, RefusedError) else _REASONS.get(type(error), "StoreUnavailable")


def exit_code_of(error: ModelKitError) -> ExitCode:
    """Refused, unless another attempt may find the store in a better state."""
    return ExitCode.FAILED if isinstance(error, StoreError) else ExitCode.REFUSED


def write_reason(path: Path, error: ModelKitError) -> None:
    """Leave {"outcome", "reason", "message"} in the termination log `path`."""
    message = str(error)[:_MESSAGE_CHARACTERS]
    text = json.dumps({"outcome": "Failed", "reason": reason_of(error), "message": message})
    with suppress(OSError):  # Outside of a pod there is none.
        path.write_text(text)
