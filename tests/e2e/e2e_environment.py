"""The cluster under the tests: devcluster where we are root, kind where a Docker engine answers."""

import os
import subprocess
from pathlib import Path
from typing import Protocol

from devcluster.cluster import Cluster
from devcluster.shell import environment as extended_environment
from devcluster.shell import succeeds
from devcluster.toolset import binary

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "e2e"
# A process is known by its control group, which has the pod's uid in its path, and by its command line.
_CRASH = """
for process in /proc/[0-9]*; do
  if grep -qs "pod$1" "$process/cgroup" && tr '\\0' ' ' < "$process/cmdline" | grep -q -- "-m $2 "; then
    kill -KILL "${process#/proc/}" && exit 0
  fi
done
echo "no process runs $2 in the pod $1" >&2
exit 1
"""


class Environment(Protocol):
    """A Kubernetes with one node that runs images built here."""

    def up(self) -> None:
        """Make it run."""

    def down(self) -> None:
        """Remove it and every trace of it."""

    def load(self, *references: str) -> None:
        """Make locally built images known to its node."""

    def crash(self, pod_uid: str, module: str) -> None:
        """SIGKILL from outside to the Python process that runs `module` in a pod: no signal handler, no goodbye."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's access."""

    @property
    def node_address(self) -> str:
        """Where NodePorts answer."""

    @property
    def host_address(self) -> str:
        """Where pods reach a server that the tests run."""


class DevClusterEnvironment:
    """A node out of plain processes."""

    def __init__(self, name: str, *, keep: bool) -> None:
        self._cluster = Cluster(name, tier="node", owner_pid=None if keep else os.getpid())

    def up(self) -> None:
        self._cluster.up()

    def down(self) -> None:
        self._cluster.down()

    def load(self, *references: str) -> None:
        self._cluster.load_image(*references)

    def crash(self, pod_uid: str, module: str) -> None:
        run("sh", "-c", _CRASH, "crash", pod_uid.replace("-", "[-_]"), module)

    @property
    def kubeconfig(self) -> Path:
        return self._cluster.kubeconfig

    @property
    def node_address(self) -> str:
        return self._cluster.node_address

    @property
    def host_address(self) -> str:
        return self._cluster.host_address


class KindEnvironment:
    """kind: its node is a container whose address this machine can reach."""

    def __init__(self, name: str) -> None:
        self._name = name

    def up(self) -> None:
        BUILD.mkdir(parents=True, exist_ok=True)
        if self._name in self._kind("get", "clusters").split():
            self._kind("export", "kubeconfig", "--name", self._name, "--kubeconfig", str(self.kubeconfig))
            return
        self._kind("create", "cluster", "--name", self._name, "--kubeconfig", str(self.kubeconfig), "--wait", "180s")

    def down(self) -> None:
        self._kind("delete", "cluster", "--name", self._name, "--kubeconfig", str(self.kubeconfig))

    def load(self, *references: str) -> None:
        self._kind("load", "docker-image", "--name", self._name, *references)

    def crash(self, pod_uid: str, module: str) -> None:
        node = f"{self._name}-control-plane"
        run("docker", "exec", node, "sh", "-c", _CRASH, "crash", pod_uid.replace("-", "[-_]"), module)

    @property
    def kubeconfig(self) -> Path:
        return BUILD / f"{self._name}.kubeconfig"

    @property
    def node_address(self) -> str:
        return self._network("IPAddress")

    @property
    def host_address(self) -> str:
        return self._network("Gateway")

    def _network(self, field: str) -> str:
        template = f'{{{{(index .NetworkSettings.Networks "kind").{field}}}}}'
        return run("docker", "inspect", "-f", template, f"{self._name}-control-plane").strip()

    @staticmethod
    def _kind(*arguments: str) -> str:
        return run(str(binary("kind")), *arguments)


def choose_environment(name: str, *, keep: bool) -> Environment:
    """What this machine offers; raises RuntimeError where it offers neither."""
    if os.geteuid() == 0 and Path("/usr/bin/apt-get").exists():
        return DevClusterEnvironment(name, keep=keep)
    if succeeds("docker", "info", timeout=20):
        return KindEnvironment(name)
    raise RuntimeError("the e2e tests need root on a Debian-like Linux or a running Docker engine; there is neither")


def run(*command: str, stdin: str | None = None, timeout: float | None = None, no_proxy: str = "") -> str:
    """Run a command and return what it printed; RuntimeError with its own words when it fails."""
    env = extended_environment()
    if no_proxy:
        env["NO_PROXY"] = env["no_proxy"] = ",".join(filter(None, (env.get("NO_PROXY"), no_proxy)))
    result = subprocess.run(
        command, input=stdin, capture_output=True, text=True, errors="replace", env=env, timeout=timeout, check=False
    )
    if result.returncode != 0:
        words = " ".join(command)
        said = result.stderr.strip() or result.stdout.strip()
        raise RuntimeError(f"{words[:300]} failed with exit code {result.returncode}: {said[-3000:]}")
    return result.stdout
