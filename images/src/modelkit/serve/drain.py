"""Whether this pod is going away, for everything that listens or answers."""

from collections.abc import Callable


class Drain:
    """Begins once, when the pod is told to stop; it isn't ready from then on, but goes on answering.

    Used on the event loop only; reading `is_draining` is safe everywhere.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._callbacks: list[Callable[[], None]] = []

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when draining begins; at once if it has begun."""
        if self.is_draining:
            callback()
        else:
            self._callbacks.append(callback)

    def begin(self) -> None:
        """Begin; a second call does nothing."""
        if self.is_draining:
            return
        self.is_draining = True
        for callback in self._callbacks:
            callback()
