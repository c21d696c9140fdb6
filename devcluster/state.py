"""What is written down about a cluster: enough to find, judge and remove it, whoever started it, however it ended."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.paths import clusters_root
from devcluster.process import ProcessRecord, is_running, read_boot_id, read_record
from devcluster.shell import write_atomically

DEFAULT_NAME = "modelloop"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


class Tier(StrEnum):
    """How much of a cluster there is."""

    APISERVER = "apiserver"
    """etcd, kube-apiserver and kube-controller-manager on loopback addresses; needs no root."""
    NODE = "node"
    """All of it, with one node that runs containers, in a network namespace of its own; needs root."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports a cluster listens on."""

    apiserver: int = 6443
    etcd: int = 2379
    etcd_peer: int = 2380
    controller_manager: int = 10257

    def taken(self) -> frozenset[int]:
        """All of them."""
        return frozenset(asdict(self).values())


@dataclass(frozen=True, slots=True)
class ClusterState:
    """One cluster as its state file has it."""

    name: str
    identity: str
    """A random word in the names of kernel objects, so that even clusters of two chroots never share one."""
    tier: Tier
    boot_id: str
    owner: ProcessRecord | None = None
    ports: Ports = field(default_factory=Ports)
    subnet: int | None = None
    processes: Mapping[str, ProcessRecord] = field(default_factory=dict)
    ready: bool = False

    @property
    def root(self) -> Path:
        """The directory that holds everything of this cluster."""
        return cluster_root(self.name)

    @property
    def kernel_name(self) -> str:
        """The name of its network namespace and cgroup."""
        return f"modelloop-{self.name}-{self.identity}"

    @property
    def is_orphan(self) -> bool:
        """Whether the process on whose behalf it ran is gone."""
        return self.owner is not None and not is_running(self.owner)

    def with_process(self, name: str, record: ProcessRecord) -> ClusterState:
        """The same cluster with one more process."""
        return replace(self, processes={**self.processes, name: record})


def require_valid_name(name: str) -> str:
    """:raises DevClusterError: the name can't be part of host names, paths and Unix sockets."""
    if _NAME.fullmatch(name) is None:
        raise DevClusterError(
            f"{name!r} can't name a cluster: use 1 to 30 lower-case letters, digits and dashes, "
            "with a letter or digit at both ends"
        )
    return name


def cluster_root(name: str) -> Path:
    """Where everything of the named cluster is."""
    return clusters_root() / name


def find_owner(pid: int | None) -> ProcessRecord | None:
    """The process on whose behalf a cluster is to run, None for nobody's.

    :raises DevClusterError: no such process is alive.
    """
    if pid is None:
        return None
    owner = read_record(pid)
    if owner is None:
        raise DevClusterError(f"no process {pid} is alive that could own a cluster")
    return owner


def build_state(name: str, tier: Tier, owner: ProcessRecord | None) -> ClusterState:
    """A new cluster's first state."""
    return ClusterState(name=name, identity=secrets.token_hex(2), tier=tier, boot_id=read_boot_id(), owner=owner)


def save_state(state: ClusterState) -> None:
    """Write the state down in one step."""
    write_atomically(state.root / "state.json", json.dumps(asdict(state), indent=2) + "\n", mode=0o600)


def load_state(name: str) -> ClusterState | None:
    """The named cluster's state, None where there is no cluster.

    :raises DevClusterError: the file is there and can't be read as a state.
    """
    path = cluster_root(name) / "state.json"
    try:
        return parse_state(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise DevClusterError(
            f"{path} isn't a cluster's state ({exc}): see devcluster/README.md, Cleaning by hand"
        ) from exc


def parse_state(text: str) -> ClusterState:
    """The inverse of what `save_state` writes."""
    raw = json.loads(text)
    return ClusterState(
        name=raw["name"],
        identity=raw["identity"],
        tier=Tier(raw["tier"]),
        boot_id=raw["boot_id"],
        owner=None if raw["owner"] is None else ProcessRecord(**raw["owner"]),
        ports=Ports(**raw["ports"]),
        subnet=raw["subnet"],
        processes={name: ProcessRecord(**record) for name, record in raw["processes"].items()},
        ready=raw["ready"],
    )


def list_names() -> list[str]:
    """The names of all clusters that left a directory, running or not."""
    root = clusters_root()
    return sorted(each.name for each in root.iterdir() if each.is_dir()) if root.is_dir() else []


def list_states() -> list[ClusterState]:
    """The states of all clusters that have one that can be read."""
    found = []
    for name in list_names():
        with contextlib.suppress(DevClusterError):
            found.append(load_state(name))
    return [each for each in found if each is not None]
