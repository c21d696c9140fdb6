"""The server's paths: a list of functions, each of which gives the routes of one protocol or purpose.

Who adds a protocol adds its function to `SOURCES`.
"""

from collections.abc import Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelkit.contract.route import ROUTE_REPORT_PATH
from modelkit.serve import openapi, v1
from modelkit.serve.errors import UnknownPathError
from modelkit.serve.evaluate import evaluate_routes
from modelkit.serve.explain import explain_routes
from modelkit.serve.routes import FALLBACK, Response, Route
from modelkit.serve.service import Service
from modelkit.serve.v2 import model_metadata, server_metadata


def health_routes(service: Service) -> dict[str, Route]:
    """Probes and metrics: they need no token."""

    def render_metrics() -> Response:
        return Response(200, generate_latest(service.metrics.registry), CONTENT_TYPE_LATEST.encode())

    return {
        "/v2/health/live": Route("live", get=lambda: Response(200, orjson.dumps({"live": True})), is_open=True),
        "/v2/health/ready": Route("ready", get=lambda: readiness(service, {}), is_open=True),
        "/metrics": Route("metrics", get=render_metrics, is_open=True),
    }


def plain_routes(service: Service) -> dict[str, Route]:
    """The server's own protocol."""
    return {"/predict": Route("predict", ask=service.predict, is_shared=True)}


def feedback_routes(service: Service) -> dict[str, Route]:
    """What turned out, by request id."""
    return {"/feedback": Route("feedback", post=service.accept_feedback, status=202)}


def rollout_routes(service: Service) -> dict[str, Route]:
    """What the operator reads of a rollout."""
    report = service.rollout.render_report
    return {ROUTE_REPORT_PATH: Route("rollout", get=lambda: Response(200, report()), is_open=True)}


def v2_routes(service: Service) -> dict[str, Route]:
    """The Open Inference Protocol over REST."""
    name, number = service.name, service.signature.number
    metadata = model_metadata(service.signature, name, service.model.platform)
    routes = {"/v2": Route("server_metadata", get=lambda: Response(200, server_metadata()))}
    whole = f"/v2/models/{name}"
    for prefix in (whole, f"{whole}/versions/{number}"):
        routes[prefix] = Route("model_metadata", get=lambda: Response(200, metadata))
        routes[f"{prefix}/ready"] = Route("model_ready", get=lambda: readiness(service, {"name": name}), is_open=True)
        routes[f"{prefix}/infer"] = Route("infer", ask=service.infer, is_shared=prefix == whole)
    return routes


def v1_routes(service: Service) -> dict[str, Route]:
    """The REST form of TensorFlow Serving and KServe v1."""
    name, number = service.name, service.signature.number
    metadata, models = v1.model_metadata(service.signature, name), v1.model_list(name)

    def status() -> Response:
        plain = v1.model_status(name, number, is_ready=service.is_ready)
        return Response(200 if service.is_ready else 503, plain)

    routes = {"/v1/models": Route("v1_models", get=lambda: Response(200, models))}
    whole = f"/v1/models/{name}"
    for prefix in (whole, f"{whole}/versions/{number}"):
        routes[prefix] = Route("v1_status", get=status, is_open=True)
        routes[f"{prefix}/metadata"] = Route("v1_metadata", get=lambda: Response(200, metadata))
        routes[f"{prefix}:predict"] = Route("v1_predict", ask=service.predict_v1, is_shared=prefix == whole)
    return routes


SOURCES: tuple[Callable[[Service], Mapping[str, Route]], ...] = (
    health_routes,
    plain_routes,
    feedback_routes,
    rollout_routes,
    evaluate_routes,
    explain_routes,
    v2_routes,
    v1_routes,
)


def relay_routes(service: Service) -> dict[str, Route]:
    """What is passed on to a runtime that speaks a protocol of its own: everything else."""
    relay = None if service.remote is None else service.remote.relay
    return {} if relay is None else {FALLBACK: Route("raw", relay=relay)}


RELAY_SOURCES: tuple[Callable[[Service], Mapping[str, Route]], ...] = (
    health_routes,
    feedback_routes,
    rollout_routes,
    relay_routes,
)
"""Before such a runtime, which has its own paths for everything else."""


def build_routes(service: Service) -> dict[str, Route]:
    """All routes by path."""
    routes: dict[str, Route] = {}
    is_relay = service.remote is not None and service.remote.relay is not None
    for source in RELAY_SOURCES if is_relay else SOURCES:
        routes.update(source(service))
    if not is_relay:
        document = openapi.build_openapi(service.signature, service.name, service.limits, {*routes, openapi.PATH})
        routes[openapi.PATH] = Route("openapi", get=lambda: Response(200, document))
    return routes


def readiness(service: Service, more: Mapping[str, object]) -> Response:
    """200 or, while clients should ask another pod, 503."""
    is_ready = service.is_ready
    return Response(200 if is_ready else 503, orjson.dumps({**more, "ready": is_ready}))


def unknown_path(service: Service, routes: Mapping[str, Route], path: str) -> UnknownPathError:
    """What to tell a client who asks for a path that isn't there."""
    if path.startswith(("/v1/models/", "/v2/models/")):
        name, number = service.name, service.signature.number
        return UnknownPathError(f"this server has the model {name!r} in version '{number}' and nothing else")
    known = ", ".join(sorted(path for path in routes if path != FALLBACK))
    return UnknownPathError(f"nothing is here; there are {known}")
