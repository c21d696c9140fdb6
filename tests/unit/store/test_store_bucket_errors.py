"""What S3 servers answer, in words: recorded texts of the client and the error that a user sees."""

import pytest
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from modelkit.errors import StoreError, StoreObjectExistsError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.bucket_errors import translate

ADDRESS = "s3://bucket/models/a"
ANSWERED = "Server returned non-2xx status code: {status}: <Error><Code>{code}</Code><Message>{said}</Message></Error>"


def _answered(code: str, status: str = "404 Not Found", said: str = "Said.") -> str:
    return ANSWERED.format(code=code, status=status, said=said)


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (AlreadyExistsError("x"), StoreObjectExistsError, "exists already"),
        (FileNotFoundError(_answered("NoSuchKey")), StoreObjectNotFoundError, "there is nothing at"),
        (FileNotFoundError("Object at location x not found"), StoreObjectNotFoundError, "there is nothing at"),
        (FileNotFoundError(_answered("NoSuchBucket")), StoreError, "its bucket doesn't exist"),
        (GenericError(_answered("NoSuchBucket")), StoreError, "its bucket doesn't exist"),
        (PermissionDeniedError(_answered("AccessDenied")), StorePermissionError, "(AccessDenied)"),
        (GenericError(_answered("InvalidAccessKeyId")), StorePermissionError, "AWS_ACCESS_KEY_ID"),
        (FileNotFoundError(_answered("XAdminUserNotFound")), StorePermissionError, "AWS_ACCESS_KEY_ID"),
        (GenericError(_answered("SlowDown", "503", "Reduce your rate.")), StoreError, "SlowDown: Reduce your rate."),
        (
            GenericError("Server returned non-2xx status code: 502 Bad Gateway: "),
            StoreError,
            "answered 502 Bad Gateway",
        ),
        (
            GenericError('HTTP error\n\n kind: Connect,\n ConnectError( "tcp", Os { message: "Connection refused" })'),
            StoreError,
            "its endpoint can't be reached (Connection refused)",
        ),
        (GenericError("HTTP error\n\n kind: Timeout,"), StoreError, "its endpoint can't be reached;"),
        (GenericError("something else\nDebug source: pages"), StoreError, "read s3://bucket/models/a: something else"),
    ],
)
def test_an_answer_becomes_an_error_that_says_what_to_do(raised: Exception, kind: type[StoreError], text: str) -> None:
    found = translate(raised, "read", ADDRESS)
    assert type(found) is kind
    assert text in str(found)
    assert ADDRESS in str(found)
    assert len(str(found).splitlines()) == 1
