"""The command lines of etcd, kube-apiserver and kube-controller-manager: the tier that needs no root.

Pure builders. The limits are generous, since tests create thousands of objects at once, and the front proxy is set up,
so that an aggregated API such as metrics-server can be registered later.
"""

from __future__ import annotations

from pathlib import Path

from devcluster.layout import LOOPBACK, SERVICE_RANGE, Layout
from devcluster.state import Tier

ISSUER = "https://kubernetes.default.svc.cluster.local"


def build_etcd_command(program: Path, layout: Layout, *, fsync: bool) -> list[str]:
    """etcd on loopback addresses, which in the node tier are the namespace's own; clients need a certificate."""
    client = f"https://{LOOPBACK}:{layout.ports.etcd}"
    peer = f"https://{LOOPBACK}:{layout.ports.etcd_peer}"
    pki = layout.pki
    return [
        str(program),
        "--name=default",
        f"--data-dir={layout.root / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        *(f"--{who}cert-file={pki / 'etcd.crt'}" for who in ("", "peer-")),
        *(f"--{who}key-file={pki / 'etcd.key'}" for who in ("", "peer-")),
        *(f"--{who}trusted-ca-file={pki / 'etcd-ca.crt'}" for who in ("", "peer-")),
        "--client-cert-auth",
        "--peer-client-cert-auth",
        "--log-level=warn",
        f"--quota-backend-bytes={8 << 30}",
        *(() if fsync else ("--unsafe-no-fsync",)),
    ]


def build_apiserver_command(program: Path, layout: Layout, *, tier: Tier) -> list[str]:
    """kube-apiserver with Node and RBAC authorization, on the layout's address."""
    pki = layout.pki
    if tier is Tier.NODE:
        # The node's address is an IP address of the namespace; nothing has to resolve the node's name.
        of_tier = [
            f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
            f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            "--kubelet-preferred-address-types=InternalIP",
        ]
    else:
        # Endpoints may not be loopback addresses, and nobody is there to use the Service `kubernetes`.
        of_tier = ["--endpoint-reconciler-type=none"]
    return [
        str(program),
        f"--bind-address={layout.address}",
        f"--advertise-address={layout.address}",
        f"--secure-port={layout.ports.apiserver}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--etcd-servers=https://{LOOPBACK}:{layout.ports.etcd}",
        f"--etcd-cafile={pki / 'etcd-ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver-etcd.crt'}",
        f"--etcd-keyfile={pki / 'apiserver-etcd.key'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki / 'service-account.pub'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        "--profiling=false",
        *of_tier,
    ]


def build_controller_manager_command(program: Path, layout: Layout, extra: tuple[str, ...] = ()) -> list[str]:
    """kube-controller-manager with enough queries per second and workers for thousands of objects."""
    pki, kubeconfig = layout.pki, layout.kubeconfig("controller-manager")
    return [
        str(program),
        f"--bind-address={LOOPBACK}",
        f"--secure-port={layout.ports.controller_manager}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'service-account.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--allocate-node-cidrs=false",
        "--kube-api-qps=300",
        "--kube-api-burst=400",
        "--concurrent-job-syncs=20",
        "--concurrent-deployment-syncs=10",
        "--concurrent-replicaset-syncs=10",
        "--concurrent-gc-syncs=40",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--profiling=false",
        *extra,
    ]
