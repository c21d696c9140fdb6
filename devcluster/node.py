"""The tier with a node: containerd, kubelet, kube-proxy, scheduler and DNS beside the control plane."""

from __future__ import annotations

import http.client
import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from devcluster import cgroups, debian, network, oci, own_root
from devcluster.client import ApiClient
from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.network import Link
from devcluster.node_config import (
    PAUSE_IMAGE,
    Runtime,
    build_cni_config,
    build_containerd_config,
    build_corefile,
    build_kube_proxy_config,
    build_kubelet_config,
    build_objects,
    build_scheduler_config,
    volume_names,
)
from devcluster.shell import find_program, run, wait_until, write_atomically

COMPONENTS = ("containerd", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
KUBECONFIG_USERS = ("scheduler", "kubelet", "kube-proxy", "coredns")
_SOCKET_PATH_LIMIT = 108
_PROGRAMS = ("containerd", "ctr", "runc", "iptables", "ip", "nsenter", "mount", "umount")


def require_host() -> None:
    """Install what the node needs from Debian, and see that the kernel can do it."""
    cgroups.require_cgroups()
    debian.ensure_programs(_PROGRAMS)
    debian.ensure_cni_plugins()


def require_room_for_sockets(layout: Layout) -> None:
    """:raises DevClusterError: a socket's path below the cluster's directory would be longer than the kernel allows."""
    longest = layout.kubelet_root / "device-plugins" / "kubelet.sock"
    if len(str(longest)) >= _SOCKET_PATH_LIMIT:
        raise DevClusterError(
            f"{layout.root} is too long a path for the sockets in it: choose a shorter name, or set XDG_STATE_HOME"
        )


def prepare(layout: Layout) -> None:
    """Namespace, control group, directories and configuration files."""
    require_room_for_sockets(layout)
    link = require_link(layout)
    if not network.is_namespace_there(layout.kernel_name):
        network.delete_namespace(layout.kernel_name, link)
        network.create_namespace(layout.kernel_name, link)
    cgroups.create(layout.kernel_name)
    own_root.create(layout.own_root)
    for name in volume_names():
        _make_volume_directory(layout.volumes / name)
    runc = find_program("runc")
    runtime = Runtime(
        cni_plugins=debian.ensure_cni_plugins(), runc=Path(runc or "runc"), snapshotter=_choose_snapshotter(layout.root)
    )
    files = {
        "containerd.toml": build_containerd_config(layout, runtime),
        "cni/10-pods.conflist": json.dumps(build_cni_config(layout, link), indent=2),
        "kubelet.json": json.dumps(build_kubelet_config(layout), indent=2),
        "kube-proxy.json": json.dumps(build_kube_proxy_config(layout, link), indent=2),
        "scheduler.json": json.dumps(build_scheduler_config(layout), indent=2),
        "Corefile": build_corefile(layout, link),
        "resolv.conf": "",
    }
    for name, text in files.items():
        write_atomically(layout.config(name), text)


def build_commands(tools: Mapping[str, Path], layout: Layout) -> dict[str, list[str]]:
    """The command lines of the node's programs."""
    link = require_link(layout)
    return {
        "containerd": ["containerd", f"--config={layout.config('containerd.toml')}"],
        "kube-scheduler": [
            str(tools["kube-scheduler"]),
            f"--config={layout.config('scheduler.json')}",
            "--bind-address=127.0.0.1",
        ],
        "kubelet": [
            str(tools["kubelet"]),
            f"--config={layout.config('kubelet.json')}",
            f"--kubeconfig={layout.kubeconfig('kubelet')}",
            f"--root-dir={layout.kubelet_root}",
            f"--hostname-override={layout.node_name}",
            f"--node-ip={link.node_address}",
        ],
        "kube-proxy": [str(tools["kube-proxy"]), f"--config={layout.config('kube-proxy.json')}"],
        "coredns": [str(tools["coredns"]), "-conf", str(layout.config("Corefile")), "-dns.port", "53"],
    }


def build_prefix(layout: Layout) -> list[str]:
    """What to put before a command that is to run where the node is."""
    return [*network.build_namespace_prefix(layout.kernel_name), *own_root.build_prefix(layout.own_root)]


def apply_objects(client: ApiClient, layout: Layout) -> None:
    """DNS, the storage class and its volumes."""
    for path, wanted in build_objects(layout, require_link(layout)):
        client.apply(path, wanted)


def import_pause_image(layout: Layout, tools: Mapping[str, Path]) -> None:
    """The image of pods' sandboxes, made here from one static program, since nothing can be pulled."""
    wait_until(lambda: is_containerd_ready(layout), seconds=30, what="an answer of containerd")
    if PAUSE_IMAGE in run_ctr(layout, "images", "list", "--quiet").split():
        return
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "pause.tar"
        oci.write_program_image(archive, tools["pause"], PAUSE_IMAGE)
        run_ctr(layout, "images", "import", str(archive))


def is_ready(client: ApiClient, layout: Layout) -> bool:
    """Whether the node is Ready and Services and DNS work."""
    node = client.get(f"/api/v1/nodes/{layout.node_name}")
    conditions = [] if node is None else node["status"].get("conditions", [])
    if not any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        return False
    address = require_link(layout).node_address
    return _answers(f"http://{address}:10256/healthz") and _answers(f"http://{address}:8181/ready")


def reclaim_volumes(client: ApiClient) -> None:
    """Empty the volumes whose claims are gone and offer them again."""
    for name in volume_names():
        path = f"/api/v1/persistentvolumes/{name}"
        volume = client.get(path)
        if volume is None or volume["status"].get("phase") != "Released":
            continue
        directory = Path(volume["spec"]["local"]["path"])
        shutil.rmtree(directory)
        _make_volume_directory(directory)
        client.merge(path, {"spec": {"claimRef": None}})


def build_ctr_command(layout: Layout, *arguments: str) -> list[str]:
    """A command of containerd's own client, in the namespace that the kubelet uses."""
    return ["ctr", "--address", str(layout.containerd_socket), "--namespace", "k8s.io", *arguments]


def run_ctr(layout: Layout, *arguments: str) -> str:
    """Run such a command and return what it printed."""
    return run(*build_ctr_command(layout, *arguments))


def is_containerd_ready(layout: Layout) -> bool:
    """Whether containerd answers."""
    try:
        run_ctr(layout, "version")
    except DevClusterError:
        return False
    return True


def require_link(layout: Layout) -> Link:
    """The layout's link.

    :raises DevClusterError: the cluster has no node.
    """
    if layout.link is None:
        raise DevClusterError(f"the cluster {layout.name} has no node: take it down, and up again with --tier node")
    return layout.link


def _make_volume_directory(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o777)


def _choose_snapshotter(root: Path) -> str:
    """Overlays where the file system below allows them; in a container, itself on an overlay, plain copies."""
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        folders = {name: Path(scratch) / name for name in ("lower", "upper", "work", "merged")}
        for folder in folders.values():
            folder.mkdir()
        options = f"lowerdir={folders['lower']},upperdir={folders['upper']},workdir={folders['work']}"
        try:
            run("mount", "-t", "overlay", "overlay", "-o", options, folders["merged"])
        except DevClusterError:
            return "native"
        run("umount", folders["merged"])
        return "overlayfs"


def _answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=2) as answer:
            return int(answer.status) == http.client.OK
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False
