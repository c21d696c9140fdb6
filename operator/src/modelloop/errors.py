"""The control plane's exception tree.

::

    ModelLoopError
    ├── SettingsError           an environment variable that can't be used
    ├── ClusterError            a call to the API server failed; carries the HTTP status
    │   ├── ConflictError       409: somebody else wrote first; read again
    │   ├── NotFoundError       404
    │   ├── ForbiddenError      403: RBAC, a quota or an admission rule
    │   └── InvalidError        400 and 422: the API server refused the object
    └── LeaseLostError          another operator is active now

`handlers` and `__main__` translate them; nothing below raises kopf's errors.
"""


class ModelLoopError(Exception):
    """Root of everything that modelloop raises on purpose."""


class SettingsError(ModelLoopError):
    """An environment variable that can't be used."""


class ClusterError(ModelLoopError):
    """A call to the API server failed."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ConflictError(ClusterError):
    """Somebody else wrote first."""


class NotFoundError(ClusterError):
    """The object isn't there."""


class ForbiddenError(ClusterError):
    """RBAC, a quota or an admission rule refused the call."""


class InvalidError(ClusterError):
    """The API server refused the object as it is."""


class LeaseLostError(ModelLoopError):
    """Another operator holds the Lease now."""
