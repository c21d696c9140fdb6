"""The builders of configuration files, command lines and objects."""

import tomllib
from pathlib import Path

import pytest

from devcluster import apiserver, lifecycle, node, node_config, pki
from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.lifecycle import Options
from devcluster.network import Link
from devcluster.node_config import Runtime
from devcluster.state import Ports, Tier
from devcluster.toolset import NODE_TOOLS

ROOT = Path("/var/lib/clusters/demo")
LINK = Link(5)
TOOLS = {name: Path("/tools", name) for name in NODE_TOOLS}
CRI = "io.containerd.grpc.v1.cri"


@pytest.fixture
def whole() -> Layout:
    return Layout(name="demo", root=ROOT, ports=Ports(), kernel_name="modelloop-demo-ab12", link=LINK)


@pytest.fixture
def small() -> Layout:
    return Layout(name="demo", root=ROOT, ports=Ports(21, 22, 23, 24), kernel_name="modelloop-demo-ab12")


def test_containerd_keeps_everything_below_the_cluster_directory(whole: Layout) -> None:
    runtime = Runtime(Path("/cni"), Path("/usr/sbin/runc"), "native")

    config = tomllib.loads(node_config.build_containerd_config(whole, runtime))

    cri = config["plugins"][CRI]
    runc = cri["containerd"]["runtimes"]["runc"]["options"]
    folders = [config["root"], config["state"], config["grpc"]["address"], cri["cni"]["conf_dir"], runc["Root"]]
    assert all(Path(folder).is_relative_to(ROOT) for folder in folders)
    assert cri["netns_mounts_under_state_dir"] is True
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["snapshotter"] == "native"
    assert runc["BinaryName"] == "/usr/sbin/runc"


def test_sockets_have_room_for_the_longest_name_in_the_usual_place() -> None:
    layout = Layout(
        name="", root=Path("/root/.local/state/modelloop/clusters", "n" * 30), ports=Ports(), kernel_name=""
    )

    node.require_room_for_sockets(layout)


def test_a_path_too_long_for_a_socket_is_refused_with_a_way_out() -> None:
    layout = Layout(name="", root=Path("/srv", "n" * 90), ports=Ports(), kernel_name="")

    with pytest.raises(DevClusterError, match="XDG_STATE_HOME"):
        node.require_room_for_sockets(layout)


def test_a_path_with_quotes_is_quoted_in_toml() -> None:
    layout = Layout(name="demo", root=Path('/a"b\\c'), ports=Ports(), kernel_name="", link=LINK)

    config = tomllib.loads(node_config.build_containerd_config(layout, Runtime(Path("/cni"), Path("/runc"))))

    assert config["root"] == '/a"b\\c/containerd/root'


def test_the_kubelet_works_on_old_and_new_control_groups(whole: Layout) -> None:
    config = node_config.build_kubelet_config(whole)

    assert config["failCgroupV1"] is False
    assert config["cgroupDriver"] == "cgroupfs"
    assert config["cgroupRoot"] == "/modelloop-demo-ab12"
    assert Path(config["podLogsDir"]).is_relative_to(ROOT)


def test_pods_get_addresses_of_the_link_and_leases_in_the_cluster_directory(whole: Layout) -> None:
    bridge = node_config.build_cni_config(whole, LINK)["plugins"][0]

    assert bridge["ipam"]["ranges"] == [[{"subnet": "198.19.5.0/24"}]]
    assert Path(bridge["ipam"]["dataDir"]).is_relative_to(ROOT)


def test_kube_proxy_leaves_connection_tracking_alone(whole: Layout) -> None:
    config = node_config.build_kube_proxy_config(whole, LINK)

    assert config["mode"] == "iptables"
    assert (config["conntrack"]["maxPerCore"], config["conntrack"]["min"]) == (0, 0)


def test_volumes_can_be_shared_and_stay_on_the_node(whole: Layout) -> None:
    objects = dict(node_config.build_objects(whole, LINK))

    volumes = [each for each in objects.values() if each["kind"] == "PersistentVolume"]
    assert len(volumes) == node_config.VOLUME_COUNT
    for each in volumes:
        assert {"ReadWriteOnce", "ReadWriteMany"} <= set(each["spec"]["accessModes"])
        assert "demo-node" in str(each["spec"]["nodeAffinity"])


def test_every_object_is_at_the_path_of_its_name(whole: Layout) -> None:
    for path, wanted in node_config.build_objects(whole, LINK):
        assert path.endswith(f"/{wanted['metadata']['name']}")


def test_builders_build_the_same_twice(whole: Layout) -> None:
    for tier in Tier:
        first, second = (lifecycle.build_commands(TOOLS, whole, tier, Options()) for _ in range(2))
        assert first == second
    assert node_config.build_objects(whole, LINK) == node_config.build_objects(whole, LINK)


@pytest.mark.parametrize("tier", list(Tier))
def test_every_expected_process_has_a_command(whole: Layout, tier: Tier) -> None:
    commands = lifecycle.build_commands(TOOLS, whole, tier, Options())

    assert set(commands) == set(lifecycle.expected_processes(tier))


def test_the_small_tier_listens_on_loopback_and_recorded_ports_only(small: Layout) -> None:
    commands = lifecycle.build_commands(TOOLS, small, Tier.APISERVER, Options())

    assert small.server == "https://127.0.0.1:21"
    assert "--bind-address=127.0.0.1" in commands["kube-apiserver"]
    assert "--secure-port=21" in commands["kube-apiserver"]
    assert "--listen-client-urls=https://127.0.0.1:22" in commands["etcd"]
    assert "--listen-peer-urls=https://127.0.0.1:23" in commands["etcd"]
    assert "--secure-port=24" in commands["kube-controller-manager"]


def test_etcd_waits_for_the_disk_only_when_told(small: Layout) -> None:
    fast, safe = (apiserver.build_etcd_command(TOOLS["etcd"], small, fsync=fsync) for fsync in (False, True))

    assert set(fast) - set(safe) == {"--unsafe-no-fsync"}


def test_flags_of_the_caller_come_last_and_win(small: Layout) -> None:
    flag = "--horizontal-pod-autoscaler-sync-period=1s"

    command = apiserver.build_controller_manager_command(TOOLS["kube-controller-manager"], small, (flag,))

    assert command[-1] == flag


def test_the_layout_of_the_small_tier_has_no_node(small: Layout) -> None:
    with pytest.raises(DevClusterError, match="--tier node"):
        node.require_link(small)


@pytest.mark.parametrize("name", ["demo-node", None])
def test_every_certificate_is_issued_by_an_earlier_authority(name: str | None) -> None:
    authorities: set[str] = set()
    for each in pki.build_certificates("198.18.5.2", name):
        if each.issued_by:
            assert each.issued_by in authorities
        else:
            authorities.add(each.name)


def test_the_api_server_is_known_by_every_name_that_clients_use() -> None:
    server = next(each for each in pki.build_certificates("198.18.5.2", None) if each.name == "apiserver")

    assert {"127.0.0.1", "10.96.0.1", "198.18.5.2"} <= set(server.addresses)
    assert {"localhost", "kubernetes.default.svc"} <= set(server.dns_names)
