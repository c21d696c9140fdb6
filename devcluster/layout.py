"""Where a cluster's files and addresses are: all that the builders of command lines need, and nothing that changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devcluster.network import Link
from devcluster.state import ClusterState, Ports, Tier

SERVICE_RANGE = "10.96.0.0/16"
DNS_SERVICE = "10.96.0.10"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths, names and addresses of one cluster."""

    name: str
    root: Path
    ports: Ports
    kernel_name: str
    link: Link | None = None

    @property
    def address(self) -> str:
        """Where the API server listens."""
        return LOOPBACK if self.link is None else self.link.node_address

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports.apiserver}"

    @property
    def node_name(self) -> str:
        """The one node's name."""
        return f"{self.name}-node"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def admin_kubeconfig(self) -> Path:
        """The kubeconfig for people and tests."""
        return self.root / "kubeconfig"

    def kubeconfig(self, component: str) -> Path:
        """The kubeconfig of one of the cluster's own programs."""
        return self.root / "config" / f"{component}.kubeconfig"

    def config(self, file: str) -> Path:
        """A configuration file of one of the cluster's own programs."""
        return self.root / "config" / file

    def log(self, component: str) -> Path:
        """The log of one of the cluster's own programs."""
        return self.root / "logs" / f"{component}.log"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd answers."""
        return self.root / "containerd" / "containerd.sock"

    @property
    def kubelet_root(self) -> Path:
        """The kubelet's directory, below which pods' volumes are mounted."""
        return self.root / "kubelet"

    @property
    def own_root(self) -> Path:
        """Where the node's programs have their root directory, should `/` not do."""
        return Path("/run", f"{self.kernel_name}-root")

    @property
    def volumes(self) -> Path:
        """The directories behind the persistent volumes."""
        return self.root / "volumes"


def build_layout(state: ClusterState) -> Layout:
    """The layout of a cluster whose ports or subnet have been chosen."""
    link = Link(state.subnet) if state.tier is Tier.NODE and state.subnet is not None else None
    return Layout(name=state.name, root=state.root, ports=state.ports, kernel_name=state.kernel_name, link=link)
