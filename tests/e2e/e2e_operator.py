"""The operator's own pod: find it, kill it, scale it, see who leads."""

import json
import time
from typing import Any

from tests.cluster.cluster_api import wait_for
from tests.e2e.e2e_space import Kube

SYSTEM = "modelloop-system"
NAME = "modelloop-operator"
SELECTOR = "app.kubernetes.io/component=operator"
SERVICE = "modelloop-operator-metrics"


class Operator:
    """What tests do to the operator."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._api = kube.api

    def pods(self) -> list[dict[str, Any]]:
        """Its pods, those that are ending too."""
        return self._api.list("Pod", SYSTEM, SELECTOR)

    def pod(self) -> str:
        """Name of the pod that is ready."""

        def ready() -> str | None:
            for pod in self.pods():
                conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
                if "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True":
                    return str(pod["metadata"]["name"])
            return None

        return wait_for(ready, 60.0, what="a ready operator")

    def crash(self) -> None:
        """SIGKILL to its process; its container is started again in the same pod."""
        for pod in self.pods():
            self._kube.environment.crash(pod["metadata"]["uid"], "modelloop")

    def kill(self) -> None:
        """Delete its pod without grace: gone from the API at once, its process a moment later."""
        for pod in self.pods():
            self._api.delete("Pod", SYSTEM, pod["metadata"]["name"], gracePeriodSeconds=0)

    def stop(self) -> float:
        """Delete its pod as anybody would; seconds until it is gone."""
        name = self.pod()
        started = time.monotonic()
        self._api.delete("Pod", SYSTEM, name)
        wait_for(lambda: self._api.find("Pod", SYSTEM, name) is None, 60.0, what="the end of the operator's pod")
        return time.monotonic() - started

    def scale(self, replicas: int) -> None:
        """Change the number of its pods; for 0, wait until they are gone."""
        self._kube.kubectl("-n", SYSTEM, "scale", f"deployment/{NAME}", f"--replicas={replicas}")
        if replicas == 0:
            wait_for(lambda: not self.pods(), 60.0, what="the end of the operator's pods")

    def wait_until_it_leads(self) -> None:
        """Until the ready pod holds the Lease."""
        wait_for(lambda: self.leader() == self.pod(), 60.0, what="an operator that leads")

    def leader(self) -> str:
        """Who holds the Lease."""
        leases = self._api.list("Lease", SYSTEM)
        return str(leases[0]["spec"].get("holderIdentity") or "") if leases else ""

    def log(self) -> list[str]:
        """Lines of its log."""
        return self._kube.kubectl("-n", SYSTEM, "logs", self.pod()).splitlines()

    def get(self, path: str) -> str:
        """What it answers at a path, through its Service."""
        return self._kube.proxy(SYSTEM, "services", f"{SERVICE}:http", path)

    def records(self) -> list[dict[str, Any]]:
        """Its log as JSON; raises ValueError for a line that isn't."""
        return [json.loads(line) for line in self.log()]
