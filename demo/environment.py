"""Where the demo runs: kind when a Docker engine answers, otherwise devcluster."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from devcluster.base_image import ensure_base_image
from devcluster.cluster import Cluster
from devcluster.engine import find_engine, read_image_id
from devcluster.shell import succeeds
from devcluster.toolset import binary

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "demo"
NAME = "modelloop-demo"
NODE_PORT = 30080
IMAGES = ("operator", "trainer", "server", "monitor")


class DemoError(Exception):
    """The demo can't go on; the message says what to do."""


class Environment(Protocol):
    """A cluster that the demo can run on."""

    title: str

    def up(self) -> None:
        """Make the cluster run."""

    def down(self) -> None:
        """Remove it."""

    def load(self, *references: str) -> None:
        """Make locally built images known to its node."""

    @property
    def kubeconfig(self) -> Path:
        """Access to it."""

    @property
    def server_address(self) -> str:
        """URL of the demo's NodePort from this machine."""


class DevClusterEnvironment:
    """A real node out of plain processes: needs root on a Debian-like Linux."""

    title = "devcluster"

    def __init__(self) -> None:
        self._cluster = Cluster(NAME, "node")

    def up(self) -> None:
        self._cluster.up()

    def down(self) -> None:
        self._cluster.down()

    def load(self, *references: str) -> None:
        self._cluster.load_image(*references)

    @property
    def kubeconfig(self) -> Path:
        return self._cluster.kubeconfig

    @property
    def server_address(self) -> str:
        return f"http://{self._cluster.node_address}:{NODE_PORT}"


class KindEnvironment:
    """kind, as kind-config.yaml describes it: needs a Docker engine."""

    title = "kind"

    def up(self) -> None:
        existing = _run(str(binary("kind")), "get", "clusters").split()
        if NAME in existing:
            _run(str(binary("kind")), "export", "kubeconfig", "--name", NAME, "--kubeconfig", str(self.kubeconfig))
            return
        BUILD.mkdir(parents=True, exist_ok=True)
        _run(
            str(binary("kind")), "create", "cluster", "--name", NAME, "--config", str(ROOT / "kind-config.yaml"),
            "--kubeconfig", str(self.kubeconfig), "--wait", "180s",
        )  # fmt: skip

    def down(self) -> None:
        _run(str(binary("kind")), "delete", "cluster", "--name", NAME, "--kubeconfig", str(self.kubeconfig))

    def load(self, *references: str) -> None:
        _run(str(binary("kind")), "load", "docker-image", "--name", NAME, *references)

    @property
    def kubeconfig(self) -> Path:
        return BUILD / "kubeconfig"

    @property
    def server_address(self) -> str:
        return f"http://127.0.0.1:{NODE_PORT}"


def find_environment() -> Environment:
    """kind with Docker, devcluster without; raises DemoError in words where neither can be."""
    if succeeds("docker", "info", timeout=15):
        return KindEnvironment()
    if os.geteuid() != 0 or not Path("/usr/bin/apt-get").exists():
        raise DemoError(
            "the demo needs a running Docker engine (then it uses kind), or root on a Debian-like Linux (then it "
            "brings up a node by itself); neither was found"
        )
    return DevClusterEnvironment()


class Kubectl:
    """kubectl with the demo's kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.path = shutil.which("kubectl") or str(binary("kubectl"))

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command; raises DemoError with what kubectl said."""
        return _run(self.path, "--kubeconfig", str(self.kubeconfig), *arguments, stdin=stdin)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """An object, or an empty dict when it isn't there."""
        text = self.run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else {}


def build_images() -> dict[str, str]:
    """Build the four images; returns their tags by image.

    A tag names the content: a demo that is run again after a change of the code rolls the change out.
    """
    base, engine = ensure_base_image(), find_engine()
    tags = {}
    for image in IMAGES:
        reference = image_reference(image, "demo")
        _build_image(image, reference, base)
        tags[image] = f"demo-{(read_image_id(engine, reference) or '')[:12]}"
        _run(engine, "tag", reference, image_reference(image, tags[image]))
    return tags


def image_reference(image: str, tag: str) -> str:
    """Where an image is kept locally."""
    return f"localhost/modelloop-{image}:{tag}"


def _build_image(image: str, reference: str, base: str) -> None:
    """Build one image in a process of its own, whose many lines go to a file."""
    BUILD.mkdir(parents=True, exist_ok=True)
    log = BUILD / f"image-{image}.log"
    dockerfile = ROOT / "images" / image / "Dockerfile"
    command = [
        sys.executable, "-m", "devcluster", "build-image", "--base", base, "-f", str(dockerfile), "-t", reference,
        str(ROOT),
    ]  # fmt: skip
    with log.open("w") as output:
        result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if result.returncode != 0:
        raise DemoError(f"building {reference} failed; {log} tells why")


def _run(*command: str, stdin: str | None = None) -> str:
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DemoError(f"{' '.join(command[:6])} failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout
