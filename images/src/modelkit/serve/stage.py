"""What a connection is reading."""

from enum import Enum


class Stage(Enum):
    """See the module."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2
    NOTHING = 3
    """Nothing more is wanted: the last request is there, or was refused."""


# An enumeration's members are looked up slowly, and a request does so a dozen times.
BETWEEN, HEAD, BODY, NOTHING = Stage
