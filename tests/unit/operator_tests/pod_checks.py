"""What the API server and the restricted Pod Security Standard ask of a pod."""

from collections import Counter
from typing import Any

Object = dict[str, Any]


def pod_spec(item: Object) -> Object | None:
    """The pod spec inside an object."""
    spec = item.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    found: Object | None = template["spec"] if template else None
    return found


def find_violations(pod: Object) -> list[str]:
    """What the restricted Pod Security Standard forbids in a pod spec (kubernetes.io/docs, Pod Security Standards)."""
    context = pod.get("securityContext", {})
    wrong = [key for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers") if pod.get(key)]
    if context.get("sysctls") or context.get("supplementalGroups") == [0]:
        wrong.append("sysctls or groups")
    for volume in pod.get("volumes", []):
        allowed = {
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "persistentVolumeClaim",
            "projected",
            "secret",
        }
        wrong += [f"volume {key}" for key in set(volume) - allowed - {"name"}]
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        effective = context | own
        if own.get("allowPrivilegeEscalation") is not False:
            wrong.append("privilege escalation")
        if own.get("privileged") or own.get("procMount"):
            wrong.append("privileged")
        if effective.get("runAsNonRoot") is not True or effective.get("runAsUser") == 0:
            wrong.append("root")
        if effective.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            wrong.append("seccomp")
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            wrong.append("capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            wrong.append("host port")
    return wrong


def find_dangling(pod: Object) -> list[str]:
    """Names and paths that occur twice where they must not, and mounts of volumes that there aren't."""
    containers = pod["containers"] + pod.get("initContainers", [])
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    wrong = [f"no volume {name}" for name in mounted - set(volumes)]
    wrong += [f"unused volume {name}" for name in set(volumes) - mounted]
    wrong += _repeated("volume", volumes) + _repeated("container", [container["name"] for container in containers])
    wrong += _repeated("port", [port["name"] for container in containers for port in container.get("ports", [])])
    numbers = [port["containerPort"] for container in containers for port in container.get("ports", [])]
    wrong += _repeated("port number", numbers)
    for container in containers:
        wrong += _repeated("mount path", [mount["mountPath"] for mount in container.get("volumeMounts", [])])
        wrong += _repeated("variable", [entry["name"] for entry in container.get("env", [])])
    return wrong


def _repeated(what: str, names: list[Any]) -> list[str]:
    return [f"{what} {name} twice" for name, count in Counter(names).items() if count > 1]
