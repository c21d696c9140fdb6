"""Environment variables and exit codes between the control plane and the workload pods."""

from enum import IntEnum

CONFIG = "MODELLOOP_CONFIG"
"""JSON of the TrainerConfig, ServerConfig or MonitorConfig of the pod."""
STORE_ENV_PREFIX = "MODELLOOP_STORE_"
"""The keys of the store's Secret arrive with this prefix, e.g. MODELLOOP_STORE_AWS_ACCESS_KEY_ID."""
DATA_ENV_PREFIX = "MODELLOOP_DATA_"
"""The keys of the data source's Secret arrive with this prefix."""

JOB_NAME = "MODELLOOP_JOB_NAME"
"""Name of the Job that a monitor's pod belongs to. A CronJob's name ends with the minute that it was due."""

HTTP_PORT = 8080
GRPC_PORT = 8081
METRICS_PORT = 9090
"""Where trainer pods answer /metrics; the server answers it on HTTP_PORT."""

RUNTIME_MODEL = "MODELLOOP_MODEL"
"""Environment variable of another model server in the pod: the folder of the version, which is another one for every
version."""

IN_FLIGHT_METRIC = "modelloop_requests_in_flight"
"""The gauge of a server's requests that are being answered; autoscalers read it per pod."""

TERMINATION_MESSAGE_LIMIT = 4096
"""Bytes; the kubelet cuts a longer termination message."""


class ExitCode(IntEnum):
    """How a workload's main process ends."""

    DONE = 0
    FAILED = 1
    """Something that another attempt may mend: the Job retries it."""
    REFUSED = 2
    """A bad specification or bad data: the same inputs fail again, so it is never retried."""
    STOPPED = 143
    """Ended by SIGTERM, such as when the run is suspended: it doesn't count as an attempt."""
