"""Removing a cluster, whatever state it is in: running, half-built, killed, or left over from before a reboot.

Nothing here asks the cluster's own programs for help, since they may be gone. The kernel knows everything that matters:
processes, control groups, mounts and network namespaces. Containers need no separate treatment: their processes are in
the cluster's control group, their root file systems and network namespaces are mounts below its directory.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from devcluster import cgroups, mounts, network, own_root, process
from devcluster.layout import build_layout
from devcluster.state import ClusterState, Tier, cluster_root, load_state

_CONTAINER_LOG_LINKS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")


def remove_cluster(name: str) -> None:
    """Remove everything of the named cluster; no trace of a cluster is no error."""
    root = cluster_root(name)
    state = load_state(name)
    _stop_processes(root, state)
    if state is not None and state.tier is Tier.NODE:
        _remove_node(state)
    mounts.remove_tree(root)


def _stop_processes(root: Path, state: ClusterState | None) -> None:
    recorded = [] if state is None else list(state.processes.values())
    while found := [each for each in {*recorded, *process.find_marked(root)} if process.is_running(each)]:
        process.stop(found, patience=0)


def _remove_node(state: ClusterState) -> None:
    cgroups.remove(state.kernel_name)
    _remove_shim_sockets(state.root)
    layout = build_layout(state)
    own_root.remove(layout.own_root)
    network.delete_namespace(state.kernel_name, layout.link)
    _remove_cni_results(state.root)
    if _CONTAINER_LOG_LINKS.is_dir():
        for link in _CONTAINER_LOG_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(state.root):
                link.unlink(missing_ok=True)


def _remove_shim_sockets(root: Path) -> None:
    """containerd's shims listen outside its own directories; each bundle says where."""
    for note in root.glob("containerd/state/io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            Path(note.read_text().strip().removeprefix("unix://")).unlink(missing_ok=True)


def _remove_cni_results(root: Path) -> None:
    """The CNI library keeps notes outside too, named after network and sandbox."""
    for sandbox in root.glob("containerd/root/io.containerd.grpc.v1.cri/sandboxes/*"):
        for note in _CNI_RESULTS.glob(f"*-{sandbox.name}-*"):
            note.unlink(missing_ok=True)
