"""What went wrong with an S3 request, in words: obstore's own texts run over pages of debug output."""

import re

from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

from modelkit.errors import StoreError, StoreObjectExistsError, StoreObjectNotFoundError, StorePermissionError

_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})")
_CAUSE = re.compile(r'(?:message|error): "([^"\\]{1,200})')
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_DENIED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "XAdminUserNotFound",  # versitygw's answer, with status 404, to an access key that it doesn't know
    }
)


def translate(exc: Exception, verb: str, address: str) -> StoreError:
    """The StoreError for what obstore raised when it was to `verb` (read, write, list, delete) `address`."""
    text = str(exc)
    code = match.group(1) if (match := _CODE.search(text)) else None
    if isinstance(exc, AlreadyExistsError):
        return StoreObjectExistsError(f"{address} exists already")
    if code in _DENIED or isinstance(exc, PermissionDeniedError | UnauthenticatedError):
        return StorePermissionError(
            f"no permission to {verb} {address}{_because(code)}: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
            "AWS_REGION of its Secret and the bucket's policy"
        )
    if code == "NoSuchBucket":
        return StoreError(f"can't {verb} {address}: its bucket doesn't exist; create it or correct the address")
    if isinstance(exc, FileNotFoundError):
        return StoreObjectNotFoundError(f"there is nothing at {address}")
    return StoreError(f"can't {verb} {address}: {_explain(text, code)}")


def _because(code: str | None) -> str:
    return f" ({code})" if code else ""


def _explain(text: str, code: str | None) -> str:
    if "kind: Connect" in text or "kind: Timeout" in text:
        cause = f" ({match.group(1)})" if (match := _CAUSE.search(text)) else ""
        return f"its endpoint can't be reached{cause}; check AWS_ENDPOINT_URL and the network policy"
    said = match.group(1) if (match := _MESSAGE.search(text)) else None
    if code or said:
        return ": ".join(part for part in (code, said) if part)
    if match := _STATUS.search(text):
        return f"the endpoint answered {match.group(1).strip()}"
    return (text.splitlines() or ["no reason was given"])[0].strip()[:300]
