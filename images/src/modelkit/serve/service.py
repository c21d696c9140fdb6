"""Answers to request bodies: parse, predict, render, capture. Synchronous and thread-safe, without HTTP.

Whether a body is answered on the event loop or on a thread is the caller's choice, guided by `Cost`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from modelkit.artifact.signature import Signature
from modelkit.contract.config import ServerConfig
from modelkit.serve.batch import Features
from modelkit.serve.capture import Capture, RowFormat, SegmentWriter
from modelkit.serve.drain import Drain
from modelkit.serve.errors import OverloadedError
from modelkit.serve.explainer import Explainer
from modelkit.serve.feedback import parse_feedback
from modelkit.serve.metrics import ServerMetrics
from modelkit.serve.model import Answer, Model
from modelkit.serve.plain import parse_predict, render_predict
from modelkit.serve.question import Question, Reply, Request
from modelkit.serve.record import record
from modelkit.serve.redaction import read_redaction
from modelkit.serve.v1 import parse_v1, render_v1
from modelkit.serve.v2 import parse_infer, render_infer

if TYPE_CHECKING:
    from modelkit.serve.rollout.follower import Follower
    from modelkit.serve.runtime.loading import RemoteVersion

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The server's clock."""
    return datetime.now(UTC)


@record
class Answered:
    """A rendered answer and the id it carries."""

    id: str
    reply: Reply


class Service:
    """One version, ready to answer."""

    def __init__(
        self,
        config: ServerConfig,
        signature: Signature,
        model: Model,
        metrics: ServerMetrics,
        requests: SegmentWriter,
        feedback: SegmentWriter,
        explainer: Explainer | None = None,
        clock: Clock = utc_now,
        remote: "RemoteVersion | None" = None,
        *,
        rollout: "Follower",
    ) -> None:
        self.name = config.deployment
        self.signature = signature
        self.model = model
        self.features = Features.of(signature)
        self.metrics = metrics
        self.explainer = explainer
        self.drain = Drain()
        self.remote = remote
        """What answers in the model's place: another model server in the pod."""
        self.rollout = rollout
        """Shares requests with another version, while versions change."""
        self.limits = config.limits
        # Here, so that there is no service whose rows are written without the rule for them. Raises RefusedError.
        redaction = read_redaction(config.capture, self.features)
        shared = RowFormat(config.version.digest, signature.number, self.features, redaction)
        self._capture = Capture(config.capture, shared, requests, metrics.dropped.inc, clock)
        self._feedback = feedback
        self._clock = clock

    @property
    def is_ready(self) -> bool:
        """Should clients be sent here? Not while the pod is told to stop, or the runtime behind it isn't ready."""
        return not self.drain.is_draining and (self.remote is None or self.remote.watch.is_ready)

    def predict(self, request: Request) -> Question:
        """The question of a /predict body; raises RequestError."""
        batch = parse_predict(self.features, request.body, self.limits)
        return Question(
            request.id,
            batch,
            len(request.body),
            lambda answer: Reply(render_predict(self.signature, self.name, answer, request.id)),
        )

    def infer(self, request: Request) -> Question:
        """The question of an infer body of the Open Inference Protocol; its own id goes before the request's."""
        found = parse_infer(self.features, self.signature, request.body, self.limits, request.json_length)
        name = found.id or request.id
        return Question(
            name,
            found.batch,
            len(request.body),
            lambda answer: render_infer(self.signature, self.name, answer, found.outputs, name),
        )

    def predict_v1(self, request: Request) -> Question:
        """The question of a v1 predict body; raises RequestError."""
        found = parse_v1(self.features, request.body, self.limits)
        return Question(
            request.id,
            found.batch,
            len(request.body),
            lambda answer: Reply(render_v1(answer, is_columnar=found.is_columnar)),
        )

    def accept_feedback(self, request: Request) -> Reply:
        """Queue the labels of a /feedback body; raises RequestError, OverloadedError when there is no room."""
        feedback = parse_feedback(self.signature, request.body, self.limits, self._clock())
        if not self._feedback.offer(feedback, len(request.body)):
            raise OverloadedError("feedback can't be stored at the moment; send it again later")
        self.metrics.feedback.inc(feedback.rows)
        authorization = None if request.head is None else request.head.authorization
        self.rollout.tell(feedback.labels, authorization, is_passed_on=False)
        return Reply(orjson.dumps({"accepted": feedback.rows}))

    def accept_passed_feedback(self, request: Request) -> Reply:
        """Compare by labels that another pod has stored; raises RequestError."""
        feedback = parse_feedback(self.signature, request.body, self.limits, self._clock())
        self.rollout.tell(feedback.labels, None, is_passed_on=True)
        return Reply(orjson.dumps({"accepted": feedback.rows}))

    def finish(self, question: Question, answer: Answer) -> Answered:
        """Count, capture and render the model's `answer` to the question; raises RequestError. Thread-safe."""
        if question.is_captured:
            self.metrics.observe_predictions(answer.predictions)
            self._capture.offer(question, answer)
        return Answered(question.id, question.render(answer))
