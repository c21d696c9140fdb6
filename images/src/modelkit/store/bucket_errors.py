"""What went wrong with a request to object storage, in words: obstore's own texts run over pages of debug output."""

import re

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from modelkit.errors import StoreError, StoreObjectExistsError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.clouds import CLOUDS, Cloud

_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})")
_CAUSE = re.compile(r'(?:message|error): "([^"\\]{1,200})')
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_DENIED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthenticationFailed",  # Azure
        "AuthorizationFailure",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "XAdminUserNotFound",  # versitygw's answer, with status 404, to an access key that it doesn't know
    }
)
_NO_CONTAINER = frozenset({"NoSuchBucket", "ContainerNotFound"})


def translate(exc: Exception, verb: str, address: str) -> StoreError:
    """The StoreError for what obstore raised when it was to `verb` (read, write, list, delete) `address`."""
    text = str(exc)
    cloud = CLOUDS[address.partition("://")[0]]
    code = match.group(1) if (match := _CODE.search(text)) else None
    if isinstance(exc, AlreadyExistsError):
        return StoreObjectExistsError(f"{address} exists already")
    if code in _DENIED or isinstance(exc, PermissionDeniedError | UnauthenticatedError):
        return StorePermissionError(
            f"no permission to {verb} {address}{_because(code)}: check {cloud.credentials} of its Secret and the "
            f"{cloud.container}'s policy"
        )
    if code in _NO_CONTAINER:
        return StoreError(
            f"can't {verb} {address}: its {cloud.container} doesn't exist; create it or correct the address"
        )
    if isinstance(exc, FileNotFoundError):
        return StoreObjectNotFoundError(f"there is nothing at {address}")
    return StoreError(f"can't {verb} {address}: {_explain(text, code, cloud)}")


def _because(code: str | None) -> str:
    return f" ({code})" if code else ""


def _explain(text: str, code: str | None, cloud: Cloud) -> str:
    if "kind: Connect" in text or "kind: Timeout" in text:
        cause = f" ({match.group(1)})" if (match := _CAUSE.search(text)) else ""
        endpoint = f"{cloud.endpoint} and " if cloud.endpoint else ""
        return f"its endpoint can't be reached{cause}; check {endpoint}the network policy"
    said = match.group(1) if (match := _MESSAGE.search(text)) else None
    if code or said:
        return ": ".join(part for part in (code, said) if part)
    if match := _STATUS.search(text):
        return f"the endpoint answered {match.group(1).strip()}"
    return (text.splitlines() or ["no reason was given"])[0].strip()[:300]
