"""How a new version takes over from the one that serves, and the state of that."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelloop.api.analysis import Analysis, CheckStatus
from modelloop.api.common import ApiModel, Duration, VersionStatus, cel, duration_between, validations
from modelloop.api.data import ColumnName

Promotion = Literal["Automatic", "Manual"]
Strategy = Literal["BlueGreen", "Canary", "Recreate"]
State = Literal["Preparing", "Scaling", "Stepping", "Paused", "Failing", "Promoting", "Baking", "RollingBack"]
Result = Literal["Promoted", "RolledBack", "Failed", "Aborted", "Superseded"]
COMMANDS = ABORT, PAUSE, PROMOTE, RESUME, ROLLBACK = ("abort", "pause", "promote", "resume", "rollback")
"""What people may ask for, by the annotation `modelloop.dev/<name>`."""
PauseReason = Literal["Manual", "Requested", "Failed", "Error", "NoTraffic", "Inconclusive"]


class Step(ApiModel):
    """A part of the traffic, for a time. Every step is judged by the analysis before the next one begins."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.weight) != has(self.shadow)", "must set either weight or shadow"),
        )
    )

    weight: Annotated[
        float | None,
        Field(
            gt=0,
            le=100,
            description="Percent of the requests that the candidate answers. What it can't answer, the stable version "
            "does.",
        ),
    ] = None
    shadow: Annotated[
        float | None,
        Field(
            gt=0,
            le=100,
            description="Percent of the requests that the candidate answers as well, for comparison only: clients get "
            "the stable version's answers.",
        ),
    ] = None
    hold: Annotated[Duration, Field(description="How long the step lasts at least.")] = "5m"
    promotion: Annotated[
        Promotion | None,
        Field(description="Manual: the next step begins when the annotation modelloop.dev/promote says so."),
    ] = None


class Sticky(ApiModel):
    """What keeps a client's requests at one version."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel("has(self.header) != has(self.column)", "must set either header or column"),
        )
    )

    header: Annotated[
        str | None,
        Field(
            max_length=128,
            description="Requests with the same value of this header (or gRPC metadata) go to the same version.",
            json_schema_extra=validations(
                cel("self.matches('^[A-Za-z0-9][-A-Za-z0-9_]*$')", "must be a header's name such as X-User-Id")
            ),
        ),
    ] = None
    column: Annotated[
        ColumnName | None,
        Field(description="Requests with the same value of this feature in their first row go to the same version."),
    ] = None


DEFAULT_STEPS = (Step(weight=10, hold="5m"), Step(weight=50, hold="5m"))


class Rollout(ApiModel):
    """How a new version takes over."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.strategy == 'Canary' || !has(self.sticky)",
                "sticky must be used with strategy Canary only",
            ),
        )
    )

    strategy: Annotated[
        Strategy,
        Field(
            description="BlueGreen: all traffic at once, when the new version is Ready. Canary: by steps. Recreate: "
            "the old version ends before the new one begins; nothing answers meanwhile."
        ),
    ] = "BlueGreen"
    steps: Annotated[
        tuple[Step, ...],
        Field(
            min_length=1,
            max_length=20,
            description="Of strategy Canary, in order; after the last one the candidate is promoted.",
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
    ] = DEFAULT_STEPS
    promotion: Annotated[
        Promotion, Field(description="Manual: nothing takes over before modelloop.dev/promote says so.")
    ] = "Automatic"
    sticky: Annotated[Sticky | None, Field(description="Not set: every request is shared out by itself.")] = None
    compare_percent: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="Percent of the requests that both versions score during steps with weight and the bake time, "
            "so that their answers can be compared.",
        ),
    ] = 10
    candidate_timeout: Annotated[
        str,
        Field(
            max_length=24,
            description="For the candidate's answer; then the stable version answers.",
            json_schema_extra=duration_between("1ms", "1m"),
        ),
    ] = "1s"
    analysis: Analysis = Analysis()
    progress_deadline: Annotated[Duration, Field(description="A version that isn't ready by then is given up.")] = "5m"
    step_deadline: Annotated[
        Duration,
        Field(description="A step without a verdict by then, beyond its hold, ends as analysis.onNoTraffic says."),
    ] = "1h"
    pause_deadline: Annotated[
        Duration, Field(description="A rollout that is paused for longer is given up; the stable version serves on.")
    ] = "168h"
    bake_time: Annotated[
        Duration, Field(description="How long the previous version is kept warm after a promotion.")
    ] = "1m"


class RolloutStatus(ApiModel):
    """The rollout under way."""

    id: Annotated[str, Field(max_length=80)]
    number: Annotated[int, Field(ge=1, description="The version that is rolled out.")]
    digest: Annotated[str, Field(max_length=80)]
    strategy: Strategy
    state: State
    position: Annotated[str, Field(max_length=16, description="Step and number of steps, such as 2/3.")] = ""
    step: Annotated[int, Field(ge=0, description="Index of the step; 0 is the first.")] = 0
    weight: Annotated[float, Field(ge=0, le=100, description="Percent of the requests that it answers.")] = 0
    compare: Annotated[float, Field(ge=0, le=100, description="Percent of the requests that both score.")] = 0
    start_time: AwareDatetime
    since: Annotated[AwareDatetime, Field(description="Since when it is in this state or step.")]
    asked_time: Annotated[
        AwareDatetime | None,
        Field(description="When the pods for this state were asked for; they must be Ready in time."),
    ] = None
    step_time: Annotated[
        AwareDatetime | None, Field(description="When the step began first; its deadline counts from here.")
    ] = None
    traffic_time: Annotated[AwareDatetime | None, Field(description="When it got its first requests.")] = None
    paused: PauseReason | None = None
    paused_state: Annotated[State | None, Field(description="What goes on after the pause.")] = None
    pause_time: Annotated[AwareDatetime | None, Field(description="Since when it is paused.")] = None
    is_direct: Annotated[bool, Field(description="Back to a version that was good before: without steps.")] = False
    is_accepted: Annotated[bool, Field(description="A person ended the bake time.")] = False
    look_time: Annotated[AwareDatetime | None, Field(description="Of the last look of the analysis.")] = None
    verdict: Annotated[
        Literal["", "Successful", "Failed", "Inconclusive", "Error"], Field(description="Of the last look.")
    ] = ""
    check: Annotated[str, Field(max_length=63, description="The check that decided it; empty: none did.")] = ""
    message: Annotated[str, Field(max_length=1024)] = ""
    requests: Annotated[int, Field(ge=0, description="That the candidate was asked in this step.")] = 0
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=32)] = ()


class RolloutRecord(VersionStatus):
    """A rollout that has ended."""

    result: Result
    reason: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=1024)] = ""
    start_time: AwareDatetime
    end_time: AwareDatetime
    position: Annotated[str, Field(max_length=16)] = ""
    requests: Annotated[int, Field(ge=0)] = 0
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=32, description="Of the last look.")] = ()


class HandledAnnotation(ApiModel):
    """The last value of an annotation that was looked at."""

    name: Annotated[str, Field(max_length=32)]
    value: Annotated[str, Field(max_length=256)]
