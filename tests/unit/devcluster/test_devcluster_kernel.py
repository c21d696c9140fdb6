"""What is read from the kernel: mounts and control groups, on old, hybrid and new hosts."""

from pathlib import Path

from devcluster.cgroups import parse_hierarchies
from devcluster.mounts import parse_mount_points, remove_tree

HYBRID = """\
25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 25 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/cpuset rw,nosuid - cgroup cgroup rw,cpuset
34 25 0:30 / /elsewhere/cgroup rw - cgroup2 cgroup2 rw
"""
UNIFIED = "31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_a_hybrid_host_has_one_hierarchy_per_controller_and_a_unified_one() -> None:
    hierarchies = dict(parse_hierarchies(HYBRID))

    assert set(hierarchies) == {Path("/sys/fs/cgroup", name) for name in ("unified", "cpu,cpuacct", "cpuset")}
    assert hierarchies[Path("/sys/fs/cgroup/unified")] == frozenset()
    assert {"cpu", "cpuacct"} <= hierarchies[Path("/sys/fs/cgroup/cpu,cpuacct")]


def test_a_new_host_has_a_single_hierarchy() -> None:
    assert parse_hierarchies(UNIFIED) == [(Path("/sys/fs/cgroup"), frozenset())]


def test_mounts_are_listed_deepest_first_and_only_below_the_folder() -> None:
    lines = ["/a", "/a/b", "/a/b/c", "/ab", "/", "/a/with\\040blank/x/y"]
    text = "".join(f"1 2 0:1 / {point} rw - tmpfs tmpfs rw\n" for point in lines)

    points = parse_mount_points(text, Path("/a"))

    assert points[0] == Path("/a/with blank/x/y")
    assert points[1:] == [Path("/a/b/c"), Path("/a/b"), Path("/a")]


def test_a_tree_is_removed_and_no_tree_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)

    remove_tree(tmp_path / "x")
    remove_tree(tmp_path / "x")

    assert list(tmp_path.iterdir()) == []
