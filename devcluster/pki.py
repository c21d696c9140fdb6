"""A cluster's certificates and kubeconfigs.

Three authorities, as kubeadm has them: the cluster's own, the front proxy's (aggregated APIs such as metrics-server)
and etcd's. Kubeconfigs are JSON, which is YAML too, with the certificates inside, so that the file alone is enough.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from devcluster.shell import run, write_atomically
from devcluster.toolset import binary

KUBERNETES_SERVICE = "10.96.0.1"
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate to make; without `issued_by` it is an authority that signs itself."""

    name: str
    common_name: str
    organization: tuple[str, ...] = ()
    issued_by: str = ""
    server: bool = False
    client: bool = False
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


def _client(name: str, common_name: str, *organization: str, issued_by: str = "ca") -> Certificate:
    return Certificate(name, common_name, organization, issued_by=issued_by, client=True)


def build_certificates(address: str, node: str | None) -> list[Certificate]:
    """All certificates of a cluster that answers on `address`, with or without a node of that name."""
    wanted = [
        Certificate("ca", "kubernetes-ca"),
        Certificate("front-proxy-ca", "front-proxy-ca"),
        Certificate("etcd-ca", "etcd-ca"),
        Certificate(
            "apiserver",
            "kube-apiserver",
            issued_by="ca",
            server=True,
            dns_names=SERVER_NAMES,
            addresses=tuple(dict.fromkeys(("127.0.0.1", KUBERNETES_SERVICE, address))),
        ),
        Certificate(
            "etcd",
            "etcd",
            issued_by="etcd-ca",
            server=True,
            client=True,
            dns_names=("localhost",),
            addresses=("127.0.0.1",),
        ),
        _client("apiserver-etcd", "kube-apiserver-etcd-client", issued_by="etcd-ca"),
        _client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
        _client("front-proxy", "front-proxy-client", issued_by="front-proxy-ca"),
        _client("admin", "devcluster-admin", "system:masters"),
        _client("controller-manager", "system:kube-controller-manager"),
    ]
    if node is not None:
        wanted += [
            _client("scheduler", "system:kube-scheduler"),
            _client("kubelet", f"system:node:{node}", "system:nodes"),
            _client("kube-proxy", "system:kube-proxy"),
            _client("coredns", "system:coredns"),
            Certificate(
                "kubelet-server", node, issued_by="ca", server=True, dns_names=(node,), addresses=(address, "127.0.0.1")
            ),
        ]
    return wanted


def write_pki(folder: Path, certificates: list[Certificate]) -> None:
    """Make all certificates, and the key pair that signs service account tokens, in `folder`."""
    order = {
        "directory": str(folder),
        "certificates": [asdict(each) for each in certificates],
        "key_pairs": ["service-account"],
    }
    run(binary("certs"), stdin=json.dumps(order))


def write_kubeconfig(path: Path, *, pki: Path, user: str, cluster: str, server: str) -> None:
    """A kubeconfig that logs in with the certificate of `user` from `pki`; readable by its owner only."""

    def encoded(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    credentials = {"client-certificate-data": encoded(f"{user}.crt"), "client-key-data": encoded(f"{user}.key")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": encoded("ca.crt")}}],
        "users": [{"name": f"{cluster}-{user}", "user": credentials}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": f"{cluster}-{user}"}}],
        "current-context": cluster,
    }
    write_atomically(path, json.dumps(config, indent=2) + "\n", mode=0o600)
