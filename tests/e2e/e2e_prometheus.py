"""A real Prometheus beside the cluster, which finds its pods by Kubernetes' own discovery and asks them at their
addresses.

Debian's is built without that discovery, so that this one is built from Prometheus' own source.
"""

import base64
import copy
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from devcluster.toolset import binary
from tests.cluster.cluster_prometheus import PrometheusProcess
from tests.e2e.e2e_space import Space
from tests.unit.observability.observed_queries import MONITORING, RULES

Object = dict[str, Any]

NAME = "prometheus"
INTERVAL = "1s"
"""Instead of the committed ones: runs of tests are short."""
TOKEN_SECONDS = 3600
QUERY_SECONDS = 8.0


def start_prometheus(space: Space, folder: Path) -> PrometheusProcess:
    """Start it with the committed configuration, as a ServiceAccount that may do what that asks for and no more."""
    token = _allow_discovery(space)
    config = build_config(space.kube.environment.kubeconfig, token, folder)
    return PrometheusProcess(folder=folder, config=config, program=binary(NAME), query_seconds=QUERY_SECONDS).start()


def build_config(kubeconfig: Path, token: str, folder: Path) -> Object:
    """The committed prometheus.yml, but for how to reach the API server, and how often."""
    (cluster,) = yaml.safe_load(kubeconfig.read_text())["clusters"]
    authority, credentials = folder / "ca.crt", folder / "token"
    authority.write_bytes(base64.b64decode(cluster["cluster"]["certificate-authority-data"]))
    credentials.touch(mode=0o600)
    credentials.write_text(token)
    committed = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    jobs: list[Object] = copy.deepcopy(committed["scrape_configs"])
    for job in jobs:
        job |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
        for discovery in job["kubernetes_sd_configs"]:
            discovery |= {
                "api_server": cluster["cluster"]["server"],
                "authorization": {"credentials_file": str(credentials)},
                "tls_config": {"ca_file": str(authority)},
            }
    return {"global": {"evaluation_interval": INTERVAL}, "rule_files": [str(RULES)], "scrape_configs": jobs}


def _allow_discovery(space: Space) -> str:
    """A token of a ServiceAccount that may get, list and watch pods."""
    api, name = space.api, f"{NAME}-{space.name}"
    rbac = "rbac.authorization.k8s.io"
    space.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}})
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    role: Object = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding: Object = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": space.name}],
    }
    for body in (role, binding):
        api.apply(body)
        space.on_close(partial(api.delete, body["kind"], None, name))
    return space.kubectl("create", "token", NAME, f"--duration={TOKEN_SECONDS}s").strip()
