"""Manifests that keep or break the rules on how a model is served: limits, capture, scaling, peers, another runtime."""

from typing import Any

from tests.cluster.cluster_api import Object
from tests.cluster.cluster_loop import deployment
from tests.cluster.crd_cases import NAMESPACE, with_value

SPEC = "ModelDeployment.spec"
DURATION = "must be a duration such as 90s, 15m or 24h"
QUANTITY = "must be a quantity such as 500m, 2 or 1Gi"
DNS_NAME = "must be a name of lower-case letters, digits and dashes such as my-model"
IMAGE = "must be an image such as registry.example.com/team/server:1.2"
LABEL = "must be a label such as topology.kubernetes.io/zone"
CIDR = "must be a CIDR such as 10.0.0.0/8"
COUNT = "must be a number of pods such as 1 or a percentage such as 25%"
BUDGET = "must set either maxUnavailable or minAvailable"
VALUES = "values must be set with operator In and NotIn, and with no other"
TRITON = {"image": "example/triton:1", "port": 8000}
MOUNT = "must be an absolute path such as /models, and none in /var/lib/modelloop/work or /tmp"
MODEL = "must be letters, digits, dots, dashes and underscores, with / between parts, such as churn_v2"


def spec(**fields: Any) -> Object:
    """A good deployment with fields of its spec replaced; `__` stands for a dot."""
    body = deployment(NAMESPACE)
    for field, value in fields.items():
        body = with_value(body, field.replace("__", "."), value)
    return body


def peers(*found: Object) -> Object:
    """A deployment that lets them in."""
    return spec(networkPolicy={"from": list(found)})


def runtime(**fields: Any) -> Object:
    """A deployment with a good runtime and other fields of it."""
    return spec(runtime=TRITON | fields)


def _out_of_bounds() -> list[tuple[Object, str, str]]:
    sizes = {"maxBodySize": ("1Ki", "1Gi"), "maxHeaderSize": ("1Ki", "1Mi"), "maxTextSize": ("1", "1Gi")}
    times = {"headerTimeout": ("100ms", "1h"), "bodyTimeout": ("100ms", "1h"), "inferenceTimeout": ("1ms", "1h")}
    found: list[tuple[Object, str, str]] = []
    for field, (low, high) in sizes.items():
        place, message = f"{SPEC}.limits.{field}", f"must be from {low} to {high}"
        found += [(spec(limits={field: size}), place, message) for size in ("0", "1.5Gi", 0, 1 << 40)]
        found += [(spec(limits={field: size}), place, QUANTITY) for size in ("1MB", "-1Mi", -1)]
    for field, (low, high) in times.items():
        place, message = f"{SPEC}.limits.{field}", f"must be from {low} to {high}"
        found += [(spec(limits={field: time}), place, message) for time in ("0s", "61m")]
        found += [(spec(limits={field: time}), place, DURATION) for time in ("30", "1 s", "")]
    return found


REJECTED: list[tuple[Object, str, str]] = [
    *_out_of_bounds(),
    (
        spec(service={"type": "LoadBalancer", "grpcNodePort": 30081}),
        f"{SPEC}.service",
        "grpcNodePort must be used with type NodePort",
    ),
    (
        spec(service={"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30080}),
        f"{SPEC}.service",
        "nodePort and grpcNodePort must differ",
    ),
    (
        spec(capture={"columns": [{"name": "zip", "action": "Hash"}]}),
        f"{SPEC}.capture",
        "hashKey must be set with action Hash",
    ),
    (
        spec(capture={"columns": [{"name": f"{number:0200}", "action": "Drop"} for number in range(51)]}),
        f"{SPEC}.capture.columns",
        "all names together must have at most 10000 characters",
    ),
    (spec(capture={"hashKey": {"secretName": "My Key"}}), f"{SPEC}.capture.hashKey.secretName", DNS_NAME),
    (spec(capture={"retention": "30s"}), f"{SPEC}.capture.retention", "must be from 1m to 99999h"),
    (spec(capture={"retention": "7d"}), f"{SPEC}.capture.retention", DURATION),
    (spec(tls={"secretName": "My Key"}), f"{SPEC}.tls.secretName", DNS_NAME),
    (spec(auth={"secretName": "My Key"}), f"{SPEC}.auth.secretName", DNS_NAME),
    (
        spec(autoscaling={"minReplicas": 4, "maxReplicas": 3}),
        f"{SPEC}.autoscaling",
        "minReplicas must be at most maxReplicas",
    ),
    *(
        (spec(autoscaling={"maxReplicas": 3, "scaleDownStabilization": time}), place, message)
        for place in (f"{SPEC}.autoscaling.scaleDownStabilization",)
        for time, message in (("2h", "must be from 0s to 1h"), ("5", DURATION))
    ),
    (spec(disruptionBudget={}), f"{SPEC}.disruptionBudget", BUDGET),
    (spec(disruptionBudget={"maxUnavailable": 1, "minAvailable": 1}), f"{SPEC}.disruptionBudget", BUDGET),
    *(
        (spec(disruptionBudget={field: amount}), f"{SPEC}.disruptionBudget.{field}", COUNT)
        for field in ("maxUnavailable", "minAvailable")
        for amount in (-1, 1001, "1", "101%", "05%", "%")
    ),
    (
        spec(topologySpreadConstraints=[{"topologyKey": "zone", "minDomains": 2}]),
        f"{SPEC}.topologySpreadConstraints[0]",
        "minDomains must be used with whenUnsatisfiable DoNotSchedule",
    ),
    (
        spec(topologySpreadConstraints=[{"topologyKey": "zone"}, {"topologyKey": "zone", "maxSkew": 2}]),
        f"{SPEC}.topologySpreadConstraints",
        "each topologyKey must be named once",
    ),
    *(
        (
            spec(topologySpreadConstraints=[{"topologyKey": key}]),
            f"{SPEC}.topologySpreadConstraints[0].topologyKey",
            LABEL,
        )
        for key in ("", "a b", "/zone", "Zone.io/x")
    ),
    (peers({}), f"{SPEC}.networkPolicy.from[0]", "must set podSelector, namespaceSelector or ipBlock"),
    *(
        (
            peers({"ipBlock": {"cidr": "10.0.0.0/8"}, selector: {}}),
            f"{SPEC}.networkPolicy.from[0]",
            "ipBlock must not be set with podSelector or namespaceSelector",
        )
        for selector in ("podSelector", "namespaceSelector")
    ),
    *(
        (peers({selector: {"matchExpressions": [expression]}}), f"{SPEC}.networkPolicy.from[0].{place}", message)
        for selector in ("podSelector", "namespaceSelector")
        for expression, place, message in (
            ({"key": "a", "operator": "In"}, f"{selector}.matchExpressions[0]", VALUES),
            ({"key": "a", "operator": "Exists", "values": ["x"]}, f"{selector}.matchExpressions[0]", VALUES),
            ({"key": "a b", "operator": "Exists"}, f"{selector}.matchExpressions[0].key", LABEL),
        )
    ),
    (peers({"ipBlock": {"cidr": "10.0.0.1"}}), f"{SPEC}.networkPolicy.from[0].ipBlock.cidr", CIDR),
    (
        peers({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["host"]}}),
        f"{SPEC}.networkPolicy.from[0].ipBlock.except[0]",
        CIDR,
    ),
    (runtime(image="my image"), f"{SPEC}.runtime.image", IMAGE),
    *(
        (
            runtime(port=port),
            f"{SPEC}.runtime.port",
            "must be another port than 8080 and 8081, where the server listens",
        )
        for port in (8080, 8081)
    ),
    (runtime(env=[{"name": "A-B"}]), f"{SPEC}.runtime.env[0].name", "must be a variable's name such as BATCH_SIZE"),
    (runtime(secretRef={"name": "My Key"}), f"{SPEC}.runtime.secretRef.name", DNS_NAME),
    *(
        (runtime(modelName=name), f"{SPEC}.runtime.modelName", MODEL)
        for name in ("", "../x", "/a", "a//b", "a b", ".x")
    ),
    *(
        (runtime(mountPath=path), f"{SPEC}.runtime.mountPath", MOUNT)
        for path in ("", "/", "models", "/models/", "/a/../b", "/tmp", "/tmp/models", "/var/lib/modelloop/work", "/a:b")
    ),
    *(
        (runtime(readinessPath=path), f"{SPEC}.runtime.readinessPath", "must be a path such as /v2/health/ready")
        for path in ("", "ready", "/a b")
    ),
    (runtime(startupTimeout="0s"), f"{SPEC}.runtime.startupTimeout", "must be from 1s to 24h"),
    (runtime(startupTimeout="long"), f"{SPEC}.runtime.startupTimeout", DURATION),
    *(
        (runtime(resources={part: {"memory": "2 GB"}}), f"{SPEC}.runtime.resources.{part}[memory]", QUANTITY)
        for part in ("limits", "requests")
    ),
    *(
        (spec(tolerations=[toleration]), f"{SPEC}.tolerations[0]{place}", message)
        for toleration, place, message in (
            ({"key": "gpu", "value": "x y"}, ".value", "must be a label's value such as gpu"),
            ({"key": "gpu", "value": "x", "operator": "Exists"}, "", "value must not be set with operator Exists"),
            ({"effect": "NoSchedule"}, "", "operator must be Exists when there is no key"),
            ({"key": "gpu", "tolerationSeconds": 5}, "", "tolerationSeconds must be used with effect NoExecute"),
        )
    ),
    (spec(priorityClassName="High!"), f"{SPEC}.priorityClassName", DNS_NAME),
    (spec(runtimeClassName="Nvidia"), f"{SPEC}.runtimeClassName", DNS_NAME),
]
ACCEPTED: list[Object] = [
    spec(limits={"maxBodySize": "1Gi", "maxHeaderSize": "8Ki", "maxTextSize": 100, "inferenceTimeout": "1ms"}),
    spec(limits={"maxBodySize": 1048576, "headerTimeout": "1h", "bodyTimeout": "1m30s"}),
    spec(batching={"maxRows": 1}),
    spec(
        capture={
            "columns": [{"name": "zip", "action": "Hash"}, {"name": "name", "action": "Drop"}],
            "hashKey": {"secretName": "capture"},
            "retention": "720h",
        }
    ),
    spec(tls={"secretName": "churn-tls"}, auth={"secretName": "churn-tokens"}),
    spec(service={"type": "NodePort", "nodePort": 30080, "grpcNodePort": 30081}),
    spec(service={"type": "NodePort", "grpcNodePort": 30081}),
    spec(autoscaling={"maxReplicas": 1}),
    spec(autoscaling={"minReplicas": 2, "maxReplicas": 8, "cpuUtilization": 60, "concurrency": 4}),
    *(
        spec(disruptionBudget={field: amount})
        for field in ("maxUnavailable", "minAvailable")
        for amount in (0, 1, 1000, "0%", "25%", "100%")
    ),
    spec(topologySpreadConstraints=[]),
    spec(topologySpreadConstraints=[{"topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}]),
    spec(networkPolicy={}),
    peers(),
    peers(
        {"podSelector": {"matchLabels": {"app": "shop"}}, "namespaceSelector": {}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a", "b"]}]}},
        {"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}},
    ),
    runtime(),
    runtime(protocol="Raw", command=["vllm", "serve"], args=["--port", "8000"], env=[{"name": "A", "value": "1"}]),
    runtime(modelName="team/churn_v2.1", mountPath="/models", readinessPath="/health?full=1", startupTimeout="30m"),
    runtime(secretRef={"name": "hub"}, resources={"limits": {"nvidia.com/gpu": 1, "memory": "16Gi"}}),
    spec(nodeSelector={"gpu": "yes"}, tolerations=[{"operator": "Exists"}], runtimeClassName="nvidia"),
    spec(affinity={"podAntiAffinity": {}}, priorityClassName="high"),
]
