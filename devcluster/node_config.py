"""What the programs of a node are told: pure builders of their configuration files and of the cluster's first objects.

JSON stands in for YAML everywhere, since it is a part of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster.layout import DNS_SERVICE, Layout
from devcluster.network import Link

Object = dict[str, Any]

PAUSE_IMAGE = "localhost/modelloop-pause:local"
VOLUME_COUNT = 40
VOLUME_SIZE = "5Gi"
STORAGE_CLASS = "local"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the host gives a container runtime."""

    cni_plugins: Path
    runc: Path
    snapshotter: str = "overlayfs"


def build_containerd_config(layout: Layout, runtime: Runtime) -> str:
    """containerd with everything of its own: directories, socket, CNI configuration, even runc's state."""
    home = layout.root / "containerd"
    cri = 'plugins."io.containerd.grpc.v1.cri"'

    def text(value: object) -> str:
        return json.dumps(str(value))

    return f"""version = 2
root = {text(home / "root")}
state = {text(home / "state")}
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = {text(layout.containerd_socket)}

[plugins."io.containerd.internal.v1.opt"]
path = {text(home / "opt")}

[{cri}]
sandbox_image = {text(PAUSE_IMAGE)}
stream_server_address = "127.0.0.1"
# Without CAP_SYS_RESOURCE no process may be given a lower score than its parent's.
restrict_oom_score_adj = true
# Pods' network namespaces below our own directory, where `down` finds them.
netns_mounts_under_state_dir = true

[{cri}.cni]
bin_dir = {text(runtime.cni_plugins)}
conf_dir = {text(layout.config("cni"))}

[{cri}.containerd]
snapshotter = {text(runtime.snapshotter)}
default_runtime_name = "runc"

[{cri}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[{cri}.containerd.runtimes.runc.options]
BinaryName = {text(runtime.runc)}
Root = {text(home / "runc")}
SystemdCgroup = false
"""


def build_cni_config(layout: Layout, link: Link) -> Object:
    """A bridge with addresses out of the link's pod range; no translation, since the host has a route to it."""
    return {
        "cniVersion": "0.4.0",
        "name": layout.kernel_name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.root / "cni-leases"),
                    "ranges": [[{"subnet": link.pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def build_kubelet_config(layout: Layout) -> Object:
    """A kubelet that works on old and new control groups, with swap, and doesn't evict before the disk is full."""
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "clusterDomain": "cluster.local",
        "clusterDNS": [DNS_SERVICE],
        "resolvConf": str(layout.config("resolv.conf")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.kernel_name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "podLogsDir": str(layout.root / "pod-logs"),
        "volumePluginDir": str(layout.kubelet_root / "volume-plugins"),
        "maxPods": 200,
        "serializeImagePulls": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
    }


def build_kube_proxy_config(layout: Layout, link: Link) -> Object:
    """kube-proxy in iptables mode that leaves the kernel's connection tracking limits as they are."""
    return {
        "kind": "KubeProxyConfiguration",
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "mode": "iptables",
        "hostnameOverride": layout.node_name,
        "clusterCIDR": link.pod_range,
        "bindAddress": link.node_address,
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def build_corefile(layout: Layout, link: Link) -> str:
    """Cluster names are answered, all others don't exist: there is no way out of the cluster's network."""
    return f"""cluster.local in-addr.arpa ip6.arpa {{
    bind {link.node_address}
    errors
    ready {link.node_address}:8181
    kubernetes {{
        kubeconfig {layout.kubeconfig("coredns")}
        pods insecure
        ttl 5
    }}
}}
. {{
    bind {link.node_address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def build_scheduler_config(layout: Layout) -> Object:
    """A scheduler that is alone."""
    return {
        "kind": "KubeSchedulerConfiguration",
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("scheduler")), "qps": 300, "burst": 400},
        "leaderElection": {"leaderElect": False},
    }


def build_objects(layout: Layout, link: Link) -> list[tuple[str, Object]]:
    """Path and object of all that a cluster has from the beginning: DNS, the storage class and its volumes."""
    return [*_dns_objects(link), *_storage_objects(layout)]


def _dns_objects(link: Link) -> list[tuple[str, Object]]:
    ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    return [
        (
            f"{rbac}/clusterroles/system:coredns",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "system:coredns"},
                "rules": [
                    {
                        "apiGroups": [""],
                        "resources": ["endpoints", "services", "pods", "namespaces"],
                        "verbs": ["list", "watch"],
                    },
                    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
                ],
            },
        ),
        (
            f"{rbac}/clusterrolebindings/system:coredns",
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "system:coredns"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:coredns",
                },
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
            },
        ),
        (
            "/api/v1/namespaces/kube-system/services/kube-dns",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "clusterIP": DNS_SERVICE,
                    "ports": [
                        {"name": name, "protocol": protocol, "port": 53, "targetPort": 53} for name, protocol in ports
                    ],
                },
            },
        ),
        (
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-node",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "kube-dns-node",
                    "namespace": "kube-system",
                    "labels": {
                        "kubernetes.io/service-name": "kube-dns",
                        "endpointslice.kubernetes.io/managed-by": "devcluster",
                    },
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [link.node_address], "conditions": {"ready": True}}],
                "ports": [{"name": name, "protocol": protocol, "port": 53} for name, protocol in ports],
            },
        ),
    ]


def volume_names() -> list[str]:
    """The names of the volumes, of their directories too."""
    return [f"local-{number:02d}" for number in range(VOLUME_COUNT)]


def _storage_objects(layout: Layout) -> list[tuple[str, Object]]:
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Retain",
    }
    return [
        (f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", storage_class),
        *((f"/api/v1/persistentvolumes/{name}", _build_volume(layout, name)) for name in volume_names()),
    ]


def _build_volume(layout: Layout, name: str) -> Object:
    """A directory as a volume of type `local`, in which, unlike with hostPath, fsGroup has its effect."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [layout.node_name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "devcluster"}},
        "spec": {
            "storageClassName": STORAGE_CLASS,
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": str(layout.volumes / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
