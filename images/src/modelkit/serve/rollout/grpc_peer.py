"""Asks the pods of another version by gRPC. On the event loop."""

from collections.abc import Sequence
from typing import Any

import grpc

from modelkit.serve.rollout.marks import PREDICTIONS, PREFIX
from modelkit.serve.rollout.trust import Trust
from modelkit.serve.rollout.verdict import ANSWERED, PassedOn, Verdict, judge_code
from modelkit.serve.routes import Response

INFER = "/inference.GRPCInferenceService/ModelInfer"
_METADATA_BYTES = 65_536
_RECONNECT_MILLISECONDS = 1000
_SET_BY_US = frozenset({"user-agent", "content-type", "te", "x-request-id", "accept-encoding"})
_GRACE_SECONDS = 5.0

Metadata = Sequence[tuple[str, str | bytes]]


class GrpcPeer:
    """One `<host>:<port>`."""

    def __init__(self, place: str, trust: Trust | None) -> None:
        options: list[tuple[str, int | str]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MILLISECONDS),
            # A proxy of the environment isn't meant for pods.
            ("grpc.enable_http_proxy", 0),
        ]
        if trust is None:
            self._channel = grpc.aio.insecure_channel(place, options)
        else:
            roots = "".join(known.pem for known in trust.known).encode()
            options.append(("grpc.ssl_target_name_override", trust.known[0].name))
            self._channel = grpc.aio.secure_channel(place, grpc.ssl_channel_credentials(roots), options)
        self._infer = self._channel.unary_unary(INFER)

    async def ask(self, message: bytes, metadata: Metadata, request_id: str) -> Verdict:
        """The version's answer to a ModelInferRequest; `metadata` with the marks. Never raises grpc.RpcError."""
        call = self._infer(message, metadata=tuple(metadata), wait_for_ready=False)
        try:
            reply = await call
        except grpc.aio.AioRpcError as exc:
            # Every answer of a server of ours has the request's id.
            has_answered = any(name == "x-request-id" for name, _ in exc.trailing_metadata() or ())
            return Verdict(judge_code(exc.code(), has_answered=has_answered))
        predictions = None
        for name, value in await call.trailing_metadata() or ():
            if name == PREDICTIONS.decode():
                predictions = value.encode() if isinstance(value, str) else value
        return Verdict(ANSWERED, PassedOn(request_id, Response(200, reply), predictions))

    async def close(self) -> None:
        """What is in flight gets a little time."""
        await self._channel.close(_GRACE_SECONDS)


def build_metadata(found: Any, request_id: str, marks: Sequence[tuple[bytes, bytes]]) -> Metadata:
    """A call's metadata as it is passed on: the client's own, without what gRPC writes itself."""
    prefix = PREFIX.decode()
    passed = [
        (name, value)
        for name, value in found or ()
        if name not in _SET_BY_US and not name.startswith((":", "grpc-", prefix))
    ]
    return [*passed, ("x-request-id", request_id), *((name.decode(), value.decode()) for name, value in marks)]
