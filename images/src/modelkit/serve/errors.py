"""The server's exception tree. The edge (`app`) alone turns an error into an HTTP status.

::

    ModelKitError
    ├── ModelUnusableError(RefusedError)   the version can't be served: it doesn't load or answers its samples wrongly
    └── RequestError                       the request can't be answered; its message goes to the client
        ├── MalformedRequestError          it isn't what the protocol or the model's signature asks for
        ├── UnprocessableRequestError      well-formed, but over a limit, or the model has no finite answer to it
        ├── BadFramingError                the bytes aren't one unambiguous HTTP request
        ├── UnknownCodingError             a transfer coding that isn't `chunked`
        ├── HeadTooLargeError
        ├── HeadTimeoutError               the request's line and headers didn't arrive in time
        ├── UnknownExpectationError        an Expect that isn't `100-continue`
        ├── UnauthorizedError              no token that is known
        ├── UnknownPathError               there is nothing at the path
        ├── WrongMethodError               there is, but not for this method
        ├── UnsupportedMediaTypeError      the body is of another type or encoding
        ├── BodyTooLargeError
        ├── BodyTimeoutError               the body didn't arrive in time
        ├── OverloadedError                too much work at once; trying again helps
        ├── InferenceTimeoutError
        └── RuntimeFailedError             another model server, which ours stands before, gave no usable answer
            ├── RuntimeAnswerError         what it answered can't be understood
            ├── RuntimeUnavailableError    it doesn't answer; trying again helps
            └── RuntimeRefusalError        it says that the request is wrong; its status and words are passed on

A message names fields and shapes, never a value of a request.
"""

from modelkit.errors import ModelKitError, RefusedError


class ModelUnusableError(RefusedError):
    """The version can't be served: it doesn't load, or doesn't answer its own samples as it did when it was made."""


class RequestError(ModelKitError):
    """A request that can't be answered; the message is for the client."""


class MalformedRequestError(RequestError):
    """The request isn't what the protocol or the model's signature asks for."""


class UnprocessableRequestError(RequestError):
    """The request is over a limit, or the model has no finite answer to it."""


class BadFramingError(RequestError):
    """The bytes aren't one unambiguous HTTP request: two parties could disagree about where it ends."""


class UnknownCodingError(RequestError):
    """The body comes in a transfer coding that isn't `chunked`."""


class HeadTooLargeError(RequestError):
    """The request's line and headers are longer than the limit."""


class HeadTimeoutError(RequestError):
    """The request's line and headers didn't arrive in time."""


class UnknownExpectationError(RequestError):
    """The client expects something else than `100-continue`."""


class UnauthorizedError(RequestError):
    """The request has no token that is known."""


class UnknownPathError(RequestError):
    """There is nothing at the path."""


class WrongMethodError(RequestError):
    """The path is known, but not with this method."""

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(f"{method[:20]} isn't allowed here; allowed: {allowed}")
        self.allowed = allowed


class UnsupportedMediaTypeError(RequestError):
    """The body isn't plain JSON."""


class BodyTooLargeError(RequestError):
    """The body is longer than the limit."""


class BodyTimeoutError(RequestError):
    """The body didn't arrive in time."""


class OverloadedError(RequestError):
    """Too many requests at once, or no room for feedback; trying again helps."""


class InferenceTimeoutError(RequestError):
    """The model took longer than the limit."""


class RuntimeFailedError(RequestError):
    """Another model server, which ours stands before, gave no usable answer."""


class RuntimeAnswerError(RuntimeFailedError):
    """What it answered can't be understood, or isn't what the version's signature says."""


class RuntimeUnavailableError(RuntimeFailedError):
    """It can't be reached or went away; trying again helps."""


class RuntimeRefusalError(RuntimeFailedError):
    """It says that the request is wrong; its status and words are passed on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """400 to 499."""
