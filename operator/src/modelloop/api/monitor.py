"""ModelMonitor: watches what a ModelDeployment answers and asks for retraining when it goes bad."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelkit.contract.metrics import METRICS
from modelkit.contract.result import CHECK_STATES
from modelloop.api.common import (
    DURATION_PATTERN,
    ApiModel,
    Conditions,
    Duration,
    Image,
    LocalRef,
    Resources,
    cel,
    validations,
)


class DriftCheck(ApiModel):
    """When the data of a window counts as drifted from what the model learned."""

    max_distance: Annotated[
        float,
        Field(gt=0, le=100, description="Population stability index above which a feature has drifted."),
    ] = 0.2
    false_discovery_rate: Annotated[
        float, Field(gt=0, le=0.5, description="Share of false findings accepted among the drifted features.")
    ] = 0.01
    max_drifted_share: Annotated[
        float, Field(ge=0, lt=1, description="Share of the features that may drift before it counts.")
    ] = 0


class QualityCheck(ApiModel):
    """When quality on labelled rows counts as lost."""

    metric: Annotated[
        str | None,
        Field(
            description="The training's primary metric when not set.",
            json_schema_extra={"enum": list(METRICS)},
        ),
    ] = None
    max_drop: Annotated[
        float, Field(ge=0, description="Allowed loss against the version's own test, in the metric's unit.")
    ] = 0.05
    max_decline: Annotated[
        float | None,
        Field(
            ge=0,
            description="Allowed loss between earlier and later windows of the version, in the metric's unit; found "
            "over all of them. Absent: windows are looked at one by one.",
        ),
    ] = None
    false_alarms: Annotated[
        float,
        Field(
            gt=0, le=0.1, description="Share of windows without a loss that may raise an alarm for a decline, at most."
        ),
    ] = 0.001
    min_labels: Annotated[int, Field(ge=1, le=1_000_000, description="Fewer labelled rows decide nothing.")] = 30


class Alarm(ApiModel):
    """k of n: how many of the last windows must be breached."""

    model_config = ConfigDict(
        json_schema_extra=validations(cel("self.breaches <= self.windows", "breaches must be at most windows"))
    )

    breaches: Annotated[int, Field(ge=1, le=10)] = 2
    windows: Annotated[int, Field(ge=1, le=10)] = 3
    recovery: Annotated[
        int, Field(ge=1, le=10, description="Windows in a row without a breach after which a retrain has helped.")
    ] = 1


class RetrainBudget(ApiModel):
    """How often a model may be retrained for alarms, whichever of its monitors asks."""

    runs: Annotated[int, Field(ge=1, le=100)] = 6
    window: Annotated[Duration, Field(description="Requests of the last such time count.")] = "24h"


class FollowUps(ApiModel):
    """Further retrains after one for an alarm, when more rows of the changed world are there."""

    runs: Annotated[int, Field(ge=1, le=5, description="At most so many after each alarm.")] = 1
    growth: Annotated[
        float,
        Field(
            gt=1,
            le=100,
            description="The next one is due when the time since the change is so many times as long as it was at the "
            "last one.",
        ),
    ] = 4


class Retrain(ApiModel):
    """What an alarm leads to."""

    mode: Annotated[
        Literal["Automatic", "Suggest"],
        Field(
            description="Suggest: an alarm is told by an Event and the condition Retraining, and the annotation "
            "`modelloop.dev/retrain` on the ModelMonitor, with any new value, has it done."
        ),
    ] = "Automatic"
    checks: Annotated[
        tuple[Literal["Drift", "Quality"], ...],
        Field(
            min_length=1,
            max_length=2,
            description="Checks whose breach counts.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = ("Drift", "Quality")
    data: Annotated[
        Literal["Append", "Replace", "Window"],
        Field(
            description="Append: the training source and the labelled captured rows; Replace: they take the place "
            "of as many of its oldest rows; Window: only they."
        ),
    ] = "Append"
    lookback: Annotated[
        Duration | None,
        Field(description="How far back labelled rows are taken; the breached windows when not set."),
    ] = None
    min_labels: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="Labelled rows a window must hold before a retrain makes sense."),
    ] = 30
    require_new_labels: Annotated[
        bool,
        Field(
            description="After a retrain that made no better version, the newest window must begin after the rows that "
            "it learned from: the same rows would teach the same."
        ),
    ] = True
    follow_ups: Annotated[
        FollowUps | None,
        Field(
            description="Shortly after a change there are few rows to learn it from. Absent: only another alarm leads "
            "to another retrain."
        ),
    ] = None
    cooldown: Annotated[Duration, Field(description="Least time between two retrains.")] = "1h"
    budget: RetrainBudget = RetrainBudget()
    give_up_after: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="After so many retrains in a row that no recovery followed, none is asked for any more: until "
            "one does, the spec is changed, or a person asks.",
        ),
    ] = 3
    during_bake: Annotated[
        Literal["Rollback", "Retrain"],
        Field(
            description="What an alarm of a version leads to whose predecessor is still kept warm. Rollback: that one "
            "serves again."
        ),
    ] = "Rollback"


class ModelMonitorSpec(ApiModel):
    """What to watch, how often, and what to do about it."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                # A text that is no duration has a message of its own; the conversion would only fail.
                f"!self.window.matches('{DURATION_PATTERN}') || duration(self.window) >= duration('10s')",
                "window must be at least 10s",
            ),
        )
    )

    deployment_ref: Annotated[LocalRef, Field(description="The ModelDeployment to watch.")]
    schedule: Annotated[
        str,
        Field(
            max_length=100,
            description="Cron expression, as in a CronJob.",
            json_schema_extra=validations(
                cel(
                    r"self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|"
                    r"[^ ]+( [^ ]+){4})$')",
                    "must be a cron expression of five fields such as */15 * * * *, or @hourly",
                )
            ),
        ),
    ]
    time_zone: Annotated[
        str | None, Field(max_length=64, description="As in a CronJob, e.g. Europe/Berlin; UTC when not set.")
    ] = None
    window: Annotated[Duration, Field(description="Requests of this length of time are looked at.")] = "24h"
    min_rows: Annotated[int, Field(ge=1, le=1_000_000, description="Fewer rows decide nothing.")] = 50
    drift: DriftCheck = DriftCheck()
    quality: QualityCheck = QualityCheck()
    alarm: Alarm = Alarm()
    retrain: Annotated[Retrain | None, Field(description="Absent: alarms are reported only.")] = None
    suspend: Annotated[bool, Field(description="Stops looking; what is known stays.")] = False
    image: Annotated[Image | None, Field(description="Another monitor image under the same contract.")] = None
    resources: Resources = Resources()


class FeatureFinding(ApiModel):
    """A feature of a check."""

    name: Annotated[str, Field(max_length=256)]
    value: float


class Check(ApiModel):
    """One check of one window."""

    name: Annotated[str, Field(max_length=64)]
    state: Annotated[str, Field(json_schema_extra={"enum": list(CHECK_STATES)})]
    message: Annotated[str, Field(max_length=1024)] = ""
    value: float | None = None
    limit: float | None = None
    rows: Annotated[int, Field(ge=0)] = 0
    worst: Annotated[tuple[FeatureFinding, ...], Field(max_length=5)] = ()
    since: Annotated[
        AwareDatetime | None, Field(description="When what is found began, if that is before the window.")
    ] = None


class Window(ApiModel):
    """What the monitor's pod found in one window. Only that pod writes it."""

    start: AwareDatetime
    end: AwareDatetime
    version: Annotated[int, Field(ge=1)]
    digest: Annotated[str, Field(max_length=80)]
    rows: Annotated[int, Field(ge=0)]
    labels: Annotated[int, Field(ge=0)]
    checks: Annotated[tuple[Check, ...], Field(max_length=16)] = ()
    report: Annotated[str, Field(max_length=512)] = ""


class RetrainRequest(ApiModel):
    """A request to the training. Its id follows from the window that raised the alarm, so it counts once."""

    id: Annotated[str, Field(max_length=256)]
    training: Annotated[str, Field(max_length=63)]
    deployment: Annotated[str, Field(max_length=63)]
    time: AwareDatetime
    reason: Annotated[str, Field(max_length=1024)]
    since: AwareDatetime
    until: AwareDatetime
    policy: Literal["Append", "Replace", "Window"]
    follow_up: Annotated[int, Field(ge=0, description="Which one after the alarm's own, from 1.")] = 0


class RollbackRequest(ApiModel):
    """A request to the deployment to go back to the version before one in its bake time."""

    digest: Annotated[str, Field(max_length=80, description="Of the version that raised the alarm.")]
    reason: Annotated[str, Field(max_length=1024)]
    time: AwareDatetime


class ModelMonitorStatus(ApiModel):
    """What was seen and what was asked for."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    conditions: Conditions = ()
    windows: Annotated[
        tuple[Window, ...],
        Field(
            max_length=32,
            description="Newest last; written by the monitor's pod.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["end"]},
        ),
    ] = ()
    retrain: Annotated[RetrainRequest | None, Field(description="The latest request.")] = None
    retrains: Annotated[int, Field(ge=0, description="Number of requests so far.")] = 0
    request_times: Annotated[
        tuple[AwareDatetime, ...], Field(max_length=100, description="Of the latest requests, newest last.")
    ] = ()
    fruitless: Annotated[
        int, Field(ge=0, description="Retrains asked for in a row that no recovery has followed so far.")
    ] = 0
    suggested: Annotated[
        str, Field(max_length=256, description="Id that the suggested retrain would have; mode Suggest.")
    ] = ""
    handled_token: Annotated[
        str, Field(max_length=256, description="Last value of modelloop.dev/retrain that was answered.")
    ] = ""
    rollback: Annotated[RollbackRequest | None, Field(description="The latest request to the deployment.")] = None
    last_window_time: AwareDatetime | None = None
