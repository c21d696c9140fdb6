"""The resources that the operator reads or writes, and their addresses on the API server."""

from dataclasses import dataclass

from modelloop.api.common import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind on the API server."""

    kind: str
    group: str
    version: str
    plural: str

    @property
    def base(self) -> str:
        """Path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of a collection, an object or its subresource."""
        parts = [self.base]
        if namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts.extend(part for part in (name, subresource) if part)
        return "/".join(parts)


MODEL_TRAINING = Resource("ModelTraining", GROUP, VERSION, "modeltrainings")
MODEL_DEPLOYMENT = Resource("ModelDeployment", GROUP, VERSION, "modeldeployments")
MODEL_MONITOR = Resource("ModelMonitor", GROUP, VERSION, "modelmonitors")
JOB = Resource("Job", "batch", "v1", "jobs")
CRON_JOB = Resource("CronJob", "batch", "v1", "cronjobs")
DEPLOYMENT = Resource("Deployment", "apps", "v1", "deployments")
POD = Resource("Pod", "", "v1", "pods")
SERVICE = Resource("Service", "", "v1", "services")
CONFIG_MAP = Resource("ConfigMap", "", "v1", "configmaps")
SERVICE_ACCOUNT = Resource("ServiceAccount", "", "v1", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Resource("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
ROLE = Resource("Role", "rbac.authorization.k8s.io", "v1", "roles")
ROLE_BINDING = Resource("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings")
HORIZONTAL_POD_AUTOSCALER = Resource("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers")
POD_DISRUPTION_BUDGET = Resource("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
NETWORK_POLICY = Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
EVENT = Resource("Event", "", "v1", "events")
LEASE = Resource("Lease", "coordination.k8s.io", "v1", "leases")

CUSTOM = (MODEL_TRAINING, MODEL_DEPLOYMENT, MODEL_MONITOR)
CHILDREN = (
    JOB, CRON_JOB, DEPLOYMENT, POD, SERVICE, SERVICE_ACCOUNT, PERSISTENT_VOLUME_CLAIM, ROLE, ROLE_BINDING,
    HORIZONTAL_POD_AUTOSCALER, POD_DISRUPTION_BUDGET, NETWORK_POLICY, CONFIG_MAP,
)  # fmt: skip
WATCHED = CUSTOM + CHILDREN
BY_KIND = {resource.kind: resource for resource in (*WATCHED, EVENT, LEASE)}
