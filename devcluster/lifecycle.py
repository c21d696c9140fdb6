"""Bringing a cluster up, step by step, each of which does nothing where its result is already there.

The same pass therefore builds a new cluster and repairs one that has lost some of its processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from devcluster import apiserver, network, node, pki, process
from devcluster.client import ApiClient
from devcluster.errors import DevClusterError
from devcluster.layout import Layout, build_layout
from devcluster.paths import locks_root
from devcluster.shell import locked, step, wait_until
from devcluster.state import ClusterState, Tier, list_states, save_state
from devcluster.toolset import APISERVER_TOOLS, NODE_TOOLS, binaries

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")


@dataclass(frozen=True, slots=True)
class Options:
    """How a cluster is to behave, as its maker says."""

    etcd_fsync: bool = False
    controller_manager_args: tuple[str, ...] = ()


def expected_processes(tier: Tier) -> tuple[str, ...]:
    """The names of the processes that a whole cluster has."""
    return (*CONTROL_PLANE, *node.COMPONENTS) if tier is Tier.NODE else CONTROL_PLANE


def refresh(state: ClusterState) -> None:
    """What `up` still does for a cluster that is running: free the volumes of deleted claims."""
    if state.tier is Tier.NODE:
        layout = build_layout(state)
        with closing(ApiClient(layout.server, layout.pki)) as client:
            node.reclaim_volumes(client)


def is_healthy(state: ClusterState) -> bool:
    """Whether it once was ready, has all of its processes, and its API server still says so."""
    if not state.ready or state.boot_id != process.read_boot_id():
        return False
    if any(name not in state.processes for name in expected_processes(state.tier)):
        return False
    if not all(process.is_running(record) for record in state.processes.values()):
        return False
    layout = build_layout(state)
    with closing(ApiClient(layout.server, layout.pki)) as client:
        try:
            wait_until(client.is_ready, seconds=10, what="an answer of the API server")
        except DevClusterError:
            return False
    return True


def bring_up(state: ClusterState, options: Options) -> ClusterState:
    """Build or repair the cluster, and return its state once it is ready."""
    tools = binaries(NODE_TOOLS if state.tier is Tier.NODE else APISERVER_TOOLS)
    if state.tier is Tier.NODE:
        node.require_host()
    alive = {name: record for name, record in state.processes.items() if process.is_running(record)}
    state = replace(_allocate(state), processes=alive)
    layout = build_layout(state)
    _write_credentials(layout, state.tier)
    commands = build_commands(tools, layout, state.tier, options)
    with closing(ApiClient(layout.server, layout.pki)) as client:
        state = _start_control_plane(state, layout, commands, client)
        if state.tier is Tier.NODE:
            with step(f"starting the node of {state.name}"):
                node.apply_objects(client, layout)
                node.reclaim_volumes(client)
                node.import_pause_image(layout, tools)
                _await(state, lambda: node.is_ready(client, layout), seconds=180, what="readiness of the node")
    state = replace(state, ready=True)
    save_state(state)
    return state


def _start_control_plane(
    state: ClusterState, layout: Layout, commands: Mapping[str, list[str]], client: ApiClient
) -> ClusterState:
    """Start everything, first what the rest would only wait for, and wait for the API server and its first objects."""
    with step(f"starting the control plane of {state.name}"):
        if state.tier is Tier.NODE:
            node.prepare(layout)
        for name in (each for each in ("etcd", "kube-apiserver", "containerd") if each in commands):
            state = _ensure_process(state, name, commands[name])
        _await(state, client.is_ready, seconds=180, what="readiness of the API server")
        for name in commands:
            state = _ensure_process(state, name, commands[name])
        _await(state, lambda: _has_default_account(client), seconds=180, what="the default service account")
    return state


def build_commands(tools: Mapping[str, Path], layout: Layout, tier: Tier, options: Options) -> dict[str, list[str]]:
    """The command line of every process, in the order of starting."""
    kcm = "kube-controller-manager"
    commands = {
        "etcd": apiserver.build_etcd_command(tools["etcd"], layout, fsync=options.etcd_fsync),
        "kube-apiserver": apiserver.build_apiserver_command(tools["kube-apiserver"], layout, tier=tier),
        kcm: apiserver.build_controller_manager_command(tools[kcm], layout, options.controller_manager_args),
    }
    return {**commands, **node.build_commands(tools, layout)} if tier is Tier.NODE else commands


def _allocate(state: ClusterState) -> ClusterState:
    """Choose ports or a subnet, under a lock that spans reading what others have and writing down the choice."""
    if state.subnet is not None or state.processes:
        return state
    with locked(locks_root() / "allocation"):
        others = [each for each in list_states() if each.name != state.name]
        if state.tier is Tier.NODE:
            recorded = {each.subnet for each in others if each.subnet is not None}
            state = replace(state, subnet=network.choose_link(recorded, network.read_networks()).number)
        else:
            taken = {port for each in others if each.tier is Tier.APISERVER for port in each.ports.taken()}
            state = replace(state, ports=network.choose_ports(taken, network.is_port_free))
        save_state(state)
    return state


def _write_credentials(layout: Layout, tier: Tier) -> None:
    if layout.admin_kubeconfig.exists():
        return
    node_name = layout.node_name if tier is Tier.NODE else None
    pki.write_pki(layout.pki, pki.build_certificates(layout.address, node_name))
    users = ("controller-manager", *(node.KUBECONFIG_USERS if tier is Tier.NODE else ()))
    for user in users:
        pki.write_kubeconfig(
            layout.kubeconfig(user), pki=layout.pki, user=user, cluster=layout.name, server=layout.server
        )
    pki.write_kubeconfig(
        layout.admin_kubeconfig, pki=layout.pki, user="admin", cluster=layout.name, server=layout.server
    )


def _ensure_process(state: ClusterState, name: str, command: list[str]) -> ClusterState:
    record = state.processes.get(name)
    if record is not None and process.is_running(record):
        return state
    layout = build_layout(state)
    if state.tier is Tier.NODE:
        command = [*node.build_prefix(layout), *command]
    started = process.start(command, marker=state.root, log=layout.log(name))
    state = state.with_process(name, started)
    save_state(state)
    return state


def _await(state: ClusterState, is_done: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait, and give up as soon as one of the cluster's processes has died."""

    def check() -> bool:
        for name, record in state.processes.items():
            if not process.is_running(record):
                raise DevClusterError(
                    f"{name} of the cluster {state.name} has died:\n{_tail(build_layout(state).log(name))}"
                )
        return is_done()

    wait_until(
        check, seconds=seconds, what=f"{what} of the cluster {state.name}; its logs are in {state.root / 'logs'}: it"
    )


def _tail(log: Path, lines: int = 8) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no log at {log})"


def _has_default_account(client: ApiClient) -> bool:
    return client.get("/api/v1/namespaces/default/serviceaccounts/default") is not None
