"""When a ModelTraining's runs begin, where they run, what they may cost and what becomes of their versions."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from modelloop.api.common import DURATION_PATTERN, ApiModel, Duration, cel, validations
from modelloop.api.placement import Placement

_QUEUE_NAME = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Budget(ApiModel):
    """How much computing time the runs of a span of time may take."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!self.window.matches('^[0-9hms]+$') || duration(self.window) >= duration('1m')",
                "window must be at least 1m",
            )
        )
    )

    cpu_hours: Annotated[
        float,
        Field(
            gt=0,
            le=1_000_000,
            description="No run begins while those of the window have used that many CPU hours or more.",
        ),
    ]
    window: Annotated[Duration, Field(description="Runs that ended within it count.")] = "24h"


class Costs(ApiModel):
    """Factors by which a run's use of CPU and memory becomes energy, emissions and money."""

    watts_per_cpu: Annotated[
        float, Field(ge=0, le=1000, description="Of a busy CPU. Default: Cloud Carbon Footprint's maximum for AWS.")
    ] = 3.5
    watts_per_gib: Annotated[
        float,
        Field(ge=0, le=1000, description="Of a GiB of memory. Default: Cloud Carbon Footprint's 0.392 W per GB."),
    ] = 0.42
    power_usage_effectiveness: Annotated[
        float,
        Field(ge=1, le=10, description="Of the data centre. Default: Cloud Carbon Footprint's for AWS."),
    ] = 1.135
    grams_co2e_per_kwh: Annotated[
        float,
        Field(
            ge=0,
            le=10_000,
            alias="gramsCo2ePerKwh",
            description="Of the grid. Default: Ember's world average for 2023.",
        ),
    ] = 480
    price_per_cpu_hour: Annotated[float | None, Field(ge=0, le=1_000_000, description="In a currency of your own.")] = (
        None
    )
    price_per_gib_hour: Annotated[float | None, Field(ge=0, le=1_000_000, description="In the same currency.")] = None


class Lifecycle(Placement):
    """The part of a ModelTraining's spec that says nothing of the model itself."""

    schedule: Annotated[
        str | None,
        Field(
            max_length=128,
            description="Cron expression of five fields, as in a CronJob: a run begins at these times too. Times that "
            "pass while no run can begin are made up for by one run.",
            json_schema_extra=validations(
                cel(
                    r"self.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|"
                    r"[-0-9A-Za-z*?,/]+( [-0-9A-Za-z*?,/]+){4})$')",
                    "must be a cron expression of five fields such as 0 3 * * 1, or @daily",
                )
            ),
        ),
    ] = None
    time_zone: Annotated[
        str | None,
        Field(
            max_length=64,
            description="IANA time zone of the schedule, e.g. Europe/Berlin; UTC when not set.",
            json_schema_extra=validations(
                cel(
                    "self.matches('^[A-Za-z][-A-Za-z0-9_+]*(/[A-Za-z0-9][-A-Za-z0-9_+]*)*$')",
                    "must be an IANA time zone such as Europe/Berlin or UTC",
                )
            ),
        ),
    ] = None
    suspend: Annotated[
        bool,
        Field(
            description="No run begins, and the one under way rests: its pods are deleted. It goes on when this is "
            "false again."
        ),
    ] = False
    deadline: Annotated[
        Duration | None,
        Field(
            description="A run that takes longer ends as Failed, DeadlineExceeded, and isn't tried again.",
            json_schema_extra=validations(
                cel(f"self.matches('{DURATION_PATTERN}')", "must be a duration such as 90s, 15m or 24h"),
                cel("!self.matches('^[0-9hms]+$') || duration(self) >= duration('1s')", "must be at least 1s"),
            ),
        ),
    ] = None
    queue_name: Annotated[
        str | None,
        Field(
            max_length=63,
            description="LocalQueue of Kueue: the Job is made suspended, and Kueue starts it.",
            json_schema_extra=validations(
                cel(f"self.matches('{_QUEUE_NAME}')", "must be the name of a LocalQueue such as team-queue")
            ),
        ),
    ] = None
    approval: Annotated[
        Literal["Automatic", "Manual"],
        Field(
            description="Manual: a version that passed its gates becomes the champion only when the annotation "
            "`modelloop.dev/approve: <number>` says so."
        ),
    ] = "Automatic"
    history_limit: Annotated[
        int,
        Field(
            ge=1,
            le=50,
            description="Runs that status remembers. Older versions are removed from the store unless they are in use.",
        ),
    ] = 10
    deletion_policy: Annotated[
        Literal["Delete", "Retain"],
        Field(
            description="What becomes of the versions in the store when the ModelTraining is deleted. Delete: they are "
            "removed, but for those that a ModelDeployment of the namespace names then."
        ),
    ] = "Retain"
    budget: Annotated[Budget | None, Field(description="Absent: runs may take what they take.")] = None
    costs: Annotated[Costs, Field(description="Changing them doesn't change what is recorded already.")] = Costs()


# -- status --------------------------------------------------------------------------------------------------------


class RunCost(ApiModel):
    """What a run used, and what follows from it by `spec.costs`."""

    cpu_seconds: Annotated[float, Field(ge=0)] = 0
    memory_gib_seconds: Annotated[float, Field(ge=0)] = 0
    energy_watt_hours: Annotated[float, Field(ge=0)] = 0
    co2e_grams: Annotated[float, Field(ge=0, alias="co2eGrams")] = 0
    price: Annotated[float | None, Field(ge=0)] = None
    estimated: Annotated[
        bool, Field(description="The run left no measurement: its pods' time by their CPU and memory.")
    ] = False


class TotalCost(RunCost):
    """What all runs so far used."""

    runs: Annotated[int, Field(ge=0, description="How many runs are in it.")] = 0


class Spending(ApiModel):
    """CPU time that counts against the budget."""

    number: Annotated[int, Field(ge=1, description="Of the run, or of the newest of several.")]
    time: Annotated[AwareDatetime, Field(description="When it ended.")]
    cpu_seconds: Annotated[float, Field(ge=0)]


class RunProgress(ApiModel):
    """How far a run is, by its own account."""

    percent: Annotated[int, Field(ge=0, le=100)]
    stage: Annotated[str, Field(max_length=32)] = ""
    estimated_completion_time: AwareDatetime | None = None
    time: Annotated[AwareDatetime, Field(description="When it was so.")]


class ScheduleStatus(ApiModel):
    """The schedule that is followed."""

    expression: Annotated[str, Field(max_length=128)]
    time_zone: Annotated[str, Field(max_length=64)] = "UTC"
    last_schedule_time: Annotated[
        AwareDatetime | None, Field(description="The last time of the schedule that a run was begun for.")
    ] = None
    next_schedule_time: Annotated[
        AwareDatetime, Field(description="The next one; in the past while a run can't begin.")
    ]
