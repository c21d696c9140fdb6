"""A cluster: up, down, and what tests, the demo and benchmarks ask of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from devcluster import debian, images, lifecycle, node, process
from devcluster.errors import DevClusterError
from devcluster.layout import Layout, build_layout
from devcluster.lifecycle import Options
from devcluster.paths import locks_root, state_root
from devcluster.shell import environment, locked, require_free_space, run, say
from devcluster.state import (
    DEFAULT_NAME,
    ClusterState,
    Tier,
    build_state,
    find_owner,
    list_names,
    list_states,
    load_state,
    require_valid_name,
    save_state,
)
from devcluster.teardown import remove_cluster
from devcluster.toolset import binary


class Cluster:
    """One cluster of this user, by name; making the object does nothing yet.

    :param tier: `apiserver` or `node`, see `state.Tier`.
    :param owner_pid: the process on whose behalf the cluster runs. Once that process is gone, the next `up` of any
        cluster, or `down --stale`, removes the cluster. None: it stays until `down`.
    :param etcd_fsync: whether etcd waits for the disk. Without it a crash of the machine loses data, a kill doesn't.
    :param controller_manager_args: further flags of kube-controller-manager.
    """

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        tier: str = Tier.APISERVER,
        *,
        owner_pid: int | None = None,
        etcd_fsync: bool = False,
        controller_manager_args: tuple[str, ...] = (),
    ) -> None:
        self.name = require_valid_name(name)
        self.tier = Tier(tier)
        self._owner_pid = owner_pid
        self._options = Options(etcd_fsync=etcd_fsync, controller_manager_args=controller_manager_args)

    def up(self) -> None:
        """Make the cluster run and be ready: at once where it does, repaired or rebuilt where it is broken."""
        debian.require_linux()
        if self.tier is Tier.NODE:
            debian.require_root("a cluster with a node")
        remove_orphans()
        with _held(self.name):
            state = load_state(self.name)
            if state is not None and state.tier is not self.tier:
                raise DevClusterError(
                    f"the cluster {self.name} is there with the tier {state.tier}, not {self.tier}: "
                    f"take it down first, by `python -m devcluster down --name {self.name}`"
                )
            if state is not None and lifecycle.is_healthy(state):
                save_state(replace(state, owner=find_owner(self._owner_pid)))
                lifecycle.refresh(state)
                return
            if state is None or not self._repair(state):
                self._build()

    def down(self) -> None:
        """Remove the cluster and every trace of it."""
        with _held(self.name):
            remove_cluster(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._layout.admin_kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._layout.server

    @property
    def node_address(self) -> str:
        """The address at which NodePorts answer from the host."""
        return node.require_link(self._layout).node_address

    @property
    def host_address(self) -> str:
        """The address at which pods reach servers that run on the host."""
        return node.require_link(self._layout).host_address

    def load_image(self, *references: str) -> None:
        """Copy images from the local image store into the cluster; what it already has is skipped."""
        node.require_link(self._layout)
        images.load_images(self._layout, references)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float | None = None) -> str:
        """Run kubectl against this cluster and return what it printed.

        :raises DevClusterError: it failed; the message has its standard error.
        """
        layout = self._layout
        direct = ",".join(filter(None, (environment().get("NO_PROXY"), layout.address)))
        env = environment(KUBECONFIG=str(layout.admin_kubeconfig), NO_PROXY=direct, no_proxy=direct)
        return run(binary("kubectl"), *arguments, stdin=stdin, env=env, timeout=timeout)

    def _repair(self, state: ClusterState) -> bool:
        """Restart what has died; False where too little is left or repairing fails."""
        alive = [name for name, record in state.processes.items() if process.is_running(record)]
        if not state.ready or not alive or state.boot_id != process.read_boot_id():
            return False
        missing = sorted(set(lifecycle.expected_processes(state.tier)) - set(alive))
        say(f"the cluster {self.name} is broken ({', '.join(missing) or 'its API server'} gone): repairing it")
        try:
            lifecycle.bring_up(state, self._options)
        except DevClusterError as exc:
            say(f"repairing failed ({str(exc).splitlines()[0]}): rebuilding it")
            return False
        return True

    def _build(self) -> None:
        if self.name in list_names():
            say(f"removing what an earlier cluster {self.name} left")
            remove_cluster(self.name)
        require_free_space(state_root(), 10 if self.tier is Tier.NODE else 1, f"the cluster {self.name}")
        state = build_state(self.name, self.tier, find_owner(self._owner_pid))
        save_state(state)
        lifecycle.bring_up(state, self._options)

    @property
    def _layout(self) -> Layout:
        state = load_state(self.name)
        if state is None:
            raise DevClusterError(
                f"there is no cluster {self.name}: make it by `python -m devcluster up --name {self.name}`"
            )
        return build_layout(state)


def remove_orphans() -> list[str]:
    """Remove the clusters whose owners are gone, and name them."""
    removed = []
    for name in [state.name for state in list_states() if state.is_orphan]:
        with _held(name, wait=False) as is_mine:
            state = load_state(name) if is_mine else None
            if state is not None and state.is_orphan:
                say(f"removing the cluster {name}, whose owner is gone")
                remove_cluster(name)
                removed.append(name)
    return removed


@contextmanager
def _held(name: str, *, wait: bool = True) -> Iterator[bool]:
    """The lock under which one cluster is changed."""
    with locked(locks_root() / f"cluster-{name}", what=f"changing the cluster {name}", wait=wait) as is_mine:
        yield is_mine
