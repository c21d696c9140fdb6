"""The tool sets: their go.mod files, versions and cache keys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import toolset, versions
from devcluster.errors import DevClusterError
from devcluster.shell import locked
from devcluster.toolset import TOOL_SETS, ToolSet

PINNED = {
    "kubernetes": ("k8s.io/kubernetes", versions.KUBERNETES),
    "etcd": ("go.etcd.io/etcd/server/v3", versions.ETCD),
    "coredns": ("github.com/coredns/coredns", versions.COREDNS),
    "versitygw": ("github.com/versity/versitygw", versions.VERSITYGW),
    "kind": ("sigs.k8s.io/kind", versions.KIND),
    "kubeconform": ("github.com/yannh/kubeconform", versions.KUBECONFORM),
    "metrics-server": ("sigs.k8s.io/metrics-server", versions.METRICS_SERVER),
    "kwok": ("sigs.k8s.io/kwok", versions.KWOK),
    "prometheus": ("github.com/prometheus/prometheus", versions.PROMETHEUS),
}


@pytest.mark.parametrize("name", sorted(PINNED))
def test_go_mod_and_versions_agree(name: str) -> None:
    module, version = PINNED[name]

    assert toolset.read_requirements((toolset.TOOLS / name / "go.mod").read_text())[module] == version


def test_every_tool_set_is_pinned_or_local() -> None:
    assert {each.name for each in TOOL_SETS} == {*PINNED, "local"}


@pytest.mark.parametrize("tool_set", TOOL_SETS, ids=lambda each: each.name)
def test_a_module_says_which_go_it_needs(tool_set: ToolSet) -> None:
    major, minor, *_ = toolset.read_required_go((tool_set.folder / "go.mod").read_text()).split(".")

    assert (int(major), int(minor)) >= (1, 24)


def test_requirements_are_read_in_every_form() -> None:
    go_mod = """module example.org/tools

go 1.26.0

require example.org/single v1.0.0

require (
\texample.org/direct/v2 v2.1.0
\texample.org/indirect v0.0.0-20240101000000-0123456789ab // indirect
)

replace example.org/direct/v2 => example.org/fork v9.9.9
"""

    assert toolset.read_requirements(go_mod) == {
        "example.org/single": "v1.0.0",
        "example.org/direct/v2": "v2.1.0",
        "example.org/indirect": "v0.0.0-20240101000000-0123456789ab",
    }
    assert toolset.read_required_go(go_mod) == "1.26.0"


def test_kubernetes_is_told_its_version() -> None:
    flags = " ".join(toolset.find_tool_set("kubelet").build_flags)

    assert f"-X k8s.io/component-base/version.gitVersion={versions.KUBERNETES}" in flags
    assert "-trimpath" in flags


def test_no_tool_is_made_by_two_sets() -> None:
    programs = [name for each in TOOL_SETS for name in each.programs]

    assert len(programs) == len(set(programs))


def test_an_unknown_tool_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(DevClusterError, match=r"no tool named kubctl: .*kubectl"):
        toolset.binary("kubctl")


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "main.go"])
def test_the_key_follows_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    monkeypatch.setattr(toolset, "TOOLS", tmp_path)
    tool_set = ToolSet("some", {"some": "example.org/some"})
    tool_set.folder.mkdir()
    for name in ("go.mod", "go.sum", "main.go", "README.md"):
        (tool_set.folder / name).write_text("1")
    before = toolset.build_key(tool_set)

    (tool_set.folder / "README.md").write_text("2")
    assert toolset.build_key(tool_set) == before
    (tool_set.folder / changed).write_text("2")
    assert toolset.build_key(tool_set) != before


def test_the_key_follows_the_linked_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolset, "TOOLS", tmp_path)

    keys = {toolset.build_key(ToolSet("some", {}, {"version": value})) for value in ("v1", "v2")}

    assert len(keys) == 2


def test_a_built_tool_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool_set = toolset.find_tool_set("pause")
    built = tmp_path / "modelloop" / "tools" / f"local-{toolset.build_key(tool_set)}" / "pause"
    built.parent.mkdir(parents=True)
    built.write_text("")

    assert toolset.binary("pause") == built


def test_a_killed_builder_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from devcluster.shell import locked\n"
        f"with locked(Path({str(lock)!r})):\n    print('locked', flush=True); time.sleep(60)"
    )
    root = Path(toolset.__file__).resolve().parents[1]
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env={**os.environ}) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with locked(lock, wait=False) as is_mine:
            assert not is_mine
        holder.kill()
    with locked(lock, wait=False) as is_mine:
        assert is_mine
