"""The data plane's exception tree.

::

    ModelKitError                 anything this package raises on purpose
    ├── RefusedError              a bad specification or bad data: the same inputs fail again (exit code 2)
    ├── SourceChangedError        the training source was changed during the run
    └── StoreError                the store could not be read or written
        ├── StoreObjectNotFoundError
        ├── StoreObjectExistsError    a put-if-absent found something
        └── StorePermissionError
    (artifact, train, serve and monitor derive their own from these)

A message says what was found, what was expected and what to do; it never holds a feature value.
"""

from collections.abc import Sequence

from modelkit.contract.result import Finding


class ModelKitError(Exception):
    """Root of everything that modelkit raises on purpose."""


class RefusedError(ModelKitError):
    """Inputs that no retry can mend. `reason` is CamelCase and ends in the run's condition."""

    def __init__(self, reason: str, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.findings = tuple(findings)
        """What is wrong with the data, one by one."""


class SourceChangedError(ModelKitError):
    """The training source isn't what it was when the run began; a new attempt begins with what it is now."""


class StoreError(ModelKitError):
    """The store could not be read or written."""


class StoreObjectNotFoundError(StoreError):
    """There is no object at the path."""


class StoreObjectExistsError(StoreError):
    """A put-if-absent found an object at the path."""


class StorePermissionError(StoreError):
    """The store refused the credentials or the access."""
