"""Free ports on the host, and a network namespace of its own for every cluster with a node.

Two kube-proxies or two CNI bridges in one namespace would overwrite each other's rules, so each node lives behind a
veth pair. 198.18.0.0/15 is set aside for test networks: 198.18.N.0/24 is the cable between host and node N,
198.19.N.0/24 its pods, routed through the node, so that the host can talk to pods and pods to the host without address
translation. There is no default route: what isn't there fails at once instead of timing out.
"""

from __future__ import annotations

import ipaddress
import json
import random
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.errors import DevClusterError
from devcluster.shell import run, succeeds
from devcluster.state import Ports

LINK_COUNT = 256
_PORT_RANGE = range(20000, 30000)
"""Below the ports that the kernel gives to outgoing connections, so that none is taken between choice and use."""
_NAMESPACES = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Link:
    """The cable between the host and the node of one cluster, and what hangs on it."""

    number: int

    @property
    def host_address(self) -> str:
        """The host's end: where pods reach servers that run on the host."""
        return f"198.18.{self.number}.1"

    @property
    def node_address(self) -> str:
        """The node's end: where the API server and NodePorts answer."""
        return f"198.18.{self.number}.2"

    @property
    def pod_range(self) -> str:
        """The pods' addresses."""
        return f"198.19.{self.number}.0/24"

    @property
    def networks(self) -> tuple[ipaddress.IPv4Network, ...]:
        """All addresses that this link takes."""
        return ipaddress.IPv4Network(f"198.18.{self.number}.0/24"), ipaddress.IPv4Network(self.pod_range)

    @property
    def host_interface(self) -> str:
        """The name of the host's end."""
        return f"modelloop{self.number}"


def choose_link(recorded: Collection[int], in_use: Iterable[str]) -> Link:
    """The first link that no cluster has recorded and no network of the host overlaps.

    :param in_use: networks of the host's addresses and routes, such as `198.18.0.0/24`; default routes don't count.
    :raises DevClusterError: all are taken.
    """
    taken = [network for network in (_parse_network(text) for text in in_use) if network is not None]
    for number in range(LINK_COUNT):
        link = Link(number)
        if number not in recorded and not any(mine.overlaps(other) for mine in link.networks for other in taken):
            return link
    raise DevClusterError(
        f"all {LINK_COUNT} subnets of 198.18.0.0/15 are taken: run `python -m devcluster down --stale`"
    )


def choose_ports(recorded: Collection[int], is_free: Callable[[int], bool], seed: int | None = None) -> Ports:
    """Ports that no cluster has recorded and nobody listens on.

    :raises DevClusterError: hardly any port is free.
    """
    candidates = random.Random(seed).sample(_PORT_RANGE, len(_PORT_RANGE))
    free: list[int] = []
    for port in candidates:
        if port not in recorded and is_free(port):
            free.append(port)
        if len(free) == len(Ports().taken()):
            return Ports(*free)
    raise DevClusterError(f"no four free ports between {_PORT_RANGE.start} and {_PORT_RANGE.stop}")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on that port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def find_free_port() -> int:
    """A port of the loopback address that nobody listens on at the moment, as the system picks it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_networks() -> list[str]:
    """The networks of all addresses and routes of the host."""
    routes: list[dict[str, Any]] = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]")
    links: list[dict[str, Any]] = json.loads(run("ip", "-json", "-4", "address") or "[]")
    addresses = [f"{info['local']}/{info['prefixlen']}" for link in links for info in link.get("addr_info", ())]
    return [str(route["dst"]) for route in routes if "dst" in route] + addresses


def is_namespace_there(name: str) -> bool:
    """Whether that network namespace can be entered; a reboot leaves an empty file of its name."""
    return (_NAMESPACES / name).exists() and succeeds(*build_namespace_prefix(name), "true")


def create_namespace(name: str, link: Link) -> None:
    """The namespace, the cable into it, addresses, and the route to its pods."""
    # Not `ip -netns`: that changes the propagation of the mount at /, which a chroot doesn't have.
    inside = (*build_namespace_prefix(name), "ip")
    run("ip", "netns", "add", name)
    run("ip", "link", "add", link.host_interface, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "address", "add", f"{link.host_address}/24", "dev", link.host_interface)
    run("ip", "link", "set", link.host_interface, "up")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{link.node_address}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run("ip", "route", "replace", link.pod_range, "via", link.node_address)
    run(*build_namespace_prefix(name), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")


def delete_namespace(name: str, link: Link | None) -> None:
    """Remove the namespace and its cable, whichever of them are there."""
    if link is not None and Path("/sys/class/net", link.host_interface).exists():
        run("ip", "link", "delete", link.host_interface)
    path = _NAMESPACES / name
    if not path.exists():
        return
    if is_namespace_there(name):
        run("ip", "netns", "delete", name)
    else:
        path.unlink()


def build_namespace_prefix(name: str) -> list[str]:
    """What to put before a command that is to run in a namespace.

    `nsenter` replaces itself by the command, so the pid stays, and unlike `ip netns exec` it leaves the mounts below
    /sys, control groups among them, alone.
    """
    return ["nsenter", f"--net={_NAMESPACES / name}", "--"]


def _parse_network(text: str) -> ipaddress.IPv4Network | None:
    if text in {"default", "0.0.0.0/0"}:
        return None
    try:
        return ipaddress.IPv4Interface(text).network
    except ValueError:
        return None
