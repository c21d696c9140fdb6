"""What Prometheus' discovery of Kubernetes pods would find, for a Prometheus that is built without it, as Debian's is.

The committed scrape configuration stays as it is but for where targets come from: the same meta labels, from a file.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.cluster_api import Object

INTERVAL = "500ms"


def build_scraping(
    committed: Mapping[str, Any], pods: Sequence[Object], addresses: Mapping[str, str], folder: Path
) -> list[dict[str, Any]]:
    """The committed scrape_configs over `pods`. `addresses`: host and port by pod's name, in place of the pod's own."""
    jobs: list[dict[str, Any]] = copy.deepcopy(committed["scrape_configs"])
    for job in jobs:
        (discovery,) = job.pop("kubernetes_sd_configs")
        targets = folder / f"{job['job_name']}.json"
        targets.write_text(
            json.dumps([entry for pod in find_selected(discovery, pods) for entry in _find_targets(pod)])
        )
        job["file_sd_configs"] = [{"files": [str(targets)]}]
        job |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
        job["relabel_configs"] += [
            {
                "source_labels": ["__meta_kubernetes_pod_name"],
                "regex": re.escape(name),
                "target_label": "__address__",
                "replacement": address,
            }
            for name, address in addresses.items()
        ]
    return jobs


def find_selected(discovery: Mapping[str, Any], pods: Sequence[Object]) -> list[Object]:
    """The pods that a kubernetes_sd_config is about."""
    assert discovery["role"] == "pod"
    (selector,) = discovery["selectors"]
    wanted = dict(part.split("=") for part in selector["label"].split(","))
    namespaces = discovery.get("namespaces", {}).get("names")
    return [
        pod
        for pod in pods
        if wanted.items() <= pod["metadata"]["labels"].items()
        and (namespaces is None or pod["metadata"]["namespace"] in namespaces)
    ]


def _find_targets(pod: Object) -> Iterator[Object]:
    """One for every port that a container declares (prometheus.io/docs, kubernetes_sd_config, role pod)."""
    metadata, spec = pod["metadata"], pod["spec"]
    about = {
        "namespace": metadata["namespace"],
        "pod_name": metadata["name"],
        "pod_phase": pod["status"]["phase"],
        **_named("pod_label", metadata.get("labels", {})),
        **_named("pod_annotation", metadata.get("annotations", {})),
    }
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        for port in container.get("ports", ()):
            number = port["containerPort"]
            place = {"container_name": container["name"], "container_port_name": port.get("name", "")}
            labels = about | {f"pod_{key}": value for key, value in place.items()}
            yield {
                "targets": [f"{pod['status']['podIP']}:{number}"],
                "labels": {f"__meta_kubernetes_{key}": value for key, value in labels.items()},
            }


def _named(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}_{re.sub(r'[^a-zA-Z0-9_]', '_', key)}": value for key, value in values.items()}
