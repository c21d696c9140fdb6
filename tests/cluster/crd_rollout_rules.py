"""Manifests that keep or break the rules on which version is served and how a new one takes over."""

from typing import Any

from tests.cluster.cluster_api import Object
from tests.cluster.crd_serving_rules import DNS_NAME, DURATION, SPEC, spec

ROLLOUT = f"{SPEC}.rollout"
ANALYSIS = f"{ROLLOUT}.analysis"
ADDRESS = "must be pvc://<claim>/<directory> or s3://<bucket>/<directory>"
SHA = "must be sha256: and 64 hex digits"
URL = "must be a URL such as http://prometheus.monitoring:9090"
STORED = {"uri": "s3://models/a/models/team/churn/3-0a1b2c3d", "digest": f"sha256:{'0a' * 32}"}
CHECK = {"name": "errors", "query": "up", "max": 1}


def rollout(**fields: Any) -> Object:
    """A good deployment with a strategy by steps and other fields of it."""
    return spec(rollout={"strategy": "Canary"} | fields)


def analysis(**fields: Any) -> Object:
    """A good deployment with fields of its rollout's analysis."""
    return rollout(analysis=fields)


def prometheus(*checks: Object, **fields: Any) -> Object:
    """A good deployment with checks of a Prometheus."""
    return analysis(prometheus={"address": "http://prometheus:9090", "checks": list(checks or [CHECK])} | fields)


def stored(**fields: Any) -> Object:
    """A deployment of a version by its address."""
    body = spec(model=STORED | fields)
    del body["spec"]["trainingRef"]
    return body


def _neither() -> Object:
    body = spec()
    del body["spec"]["trainingRef"]
    return body


def _times() -> list[tuple[Object, str, str]]:
    bounded: dict[str, tuple[str, str, Any]] = {
        f"{ROLLOUT}.candidateTimeout": ("1ms", "1m", lambda time: rollout(candidateTimeout=time)),
        f"{ANALYSIS}.interval": ("1s", "1h", lambda time: analysis(interval=time)),
        f"{ANALYSIS}.latency.maxP99": ("1ms", "1m", lambda time: analysis(latency={"maxP99": time})),
        f"{ANALYSIS}.latency.allowance": ("0s", "1m", lambda time: analysis(latency={"allowance": time})),
        f"{ANALYSIS}.latency.floor": ("0s", "1m", lambda time: analysis(latency={"floor": time})),
        f"{ANALYSIS}.prometheus.timeout": ("100ms", "1m", lambda time: prometheus(timeout=time)),
    }
    found: list[tuple[Object, str, str]] = []
    for place, (low, high, make) in bounded.items():
        found.append((make("61m"), place, f"must be from {low} to {high}"))
        found += [(make(time), place, DURATION) for time in ("30", "1 s", "")]
    free = {
        f"{ROLLOUT}.stepDeadline": lambda time: rollout(stepDeadline=time),
        f"{ROLLOUT}.pauseDeadline": lambda time: rollout(pauseDeadline=time),
        f"{ROLLOUT}.steps[0].hold": lambda time: rollout(steps=[{"weight": 1, "hold": time}]),
    }
    found += [(make(time), place, DURATION) for place, make in free.items() for time in ("30", "1 s")]
    return found


REJECTED: list[tuple[Object, str, str]] = [
    *_times(),
    (_neither(), SPEC, "must set either trainingRef or model"),
    (spec(model=STORED), SPEC, "must set either trainingRef or model"),
    (stored() | {"spec": {"model": STORED, "version": 3}}, SPEC, "version must be used with trainingRef"),
    *(
        (stored(uri=uri), f"{SPEC}.model.uri", ADDRESS)
        for uri in (
            "pvc://claim",
            "pvc://claim/",
            "s3://models/a/../b",
            "s3://models/a/",
            "s3://models/..",
            "https://example.com/a",
            "file:///etc",
            "",
        )
    ),
    *(
        (stored(digest=digest), f"{SPEC}.model.digest", SHA)
        for digest in ("", "0a" * 32, f"sha256:{'0A' * 32}", f"sha256:{'0a' * 31}")
    ),
    (
        stored(uri="pvc://claim/models/a/b/1-x", secretRef={"name": "keys"}),
        f"{SPEC}.model",
        "secretRef must be used with an s3:// uri only",
    ),
    (stored(secretRef={"name": "A"}), f"{SPEC}.model.secretRef.name", DNS_NAME),
    (
        spec(rollout={"strategy": "BlueGreen", "sticky": {"header": "x-user"}}),
        ROLLOUT,
        "sticky must be used with strategy Canary only",
    ),
    (rollout(sticky={}), f"{ROLLOUT}.sticky", "must set either header or column"),
    (rollout(sticky={"header": "x", "column": "y"}), f"{ROLLOUT}.sticky", "must set either header or column"),
    *(
        (rollout(sticky={"header": header}), f"{ROLLOUT}.sticky.header", "must be a header's name such as X-User-Id")
        for header in ("", "a b", "-x", "x:")
    ),
    (rollout(steps=[{"hold": "1m"}]), f"{ROLLOUT}.steps[0]", "must set either weight or shadow"),
    (rollout(steps=[{"weight": 1, "shadow": 1}]), f"{ROLLOUT}.steps[0]", "must set either weight or shadow"),
    (prometheus({"name": "a", "query": "up"}), f"{ANALYSIS}.prometheus.checks[0]", "must set min or max"),
    (prometheus(CHECK | {"min": 2}), f"{ANALYSIS}.prometheus.checks[0]", "min must be at most max"),
    (prometheus(CHECK | {"name": "Errors"}), f"{ANALYSIS}.prometheus.checks[0].name", DNS_NAME),
    *(
        (prometheus(address=address), f"{ANALYSIS}.prometheus.address", URL)
        for address in ("prometheus:9090", "ftp://a", "http://a:b", "http://user@a", "http://a?x", "http://a#x")
    ),
]
ACCEPTED: list[Object] = [
    spec(version=3),
    stored(),
    stored(uri="pvc://modelloop-store/models/team/churn/3-0a1b2c3d"),
    stored(secretRef={"name": "keys"}),
    *(spec(rollout={"strategy": strategy}) for strategy in ("BlueGreen", "Canary", "Recreate")),
    rollout(steps=[{"shadow": 100, "hold": "0s"}, {"weight": 0.01}, {"weight": 100, "promotion": "Manual"}]),
    rollout(sticky={"header": "X-User_Id"}, comparePercent=0, candidateTimeout="1m", promotion="Manual"),
    rollout(sticky={"column": "user id"}, stepDeadline="1m", pauseDeadline="1h"),
    analysis(interval="1s", falseRollbackRate=0.2, latency={"maxP99": "300ms", "allowance": "0s"}),
    analysis(onFailure="Pause", onNoTraffic="Pause", onError="Rollback", dryRun=True),
    prometheus(CHECK | {"min": -1}, {"name": "b", "query": "x", "min": 0.5, "failureLimit": 3}),
    prometheus(address="https://prometheus.monitoring.svc:9090/path", timeout="1m"),
]
