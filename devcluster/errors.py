"""The one exception that this package raises on purpose.

Its text is a sentence for the person at the terminal: what was found, what was expected and what to do.
"""

from __future__ import annotations


class DevClusterError(Exception):
    """The cluster, a tool or an image can't be had; the message says why and what to do."""
