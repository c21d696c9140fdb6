"""Builds the Job of the pods that share a run's search: the trainer's own Job with another program and no retries.

Workers hold nothing that matters: the trainer gives a lost one's work to another.
"""

from typing import Any

from modelloop.desired.labels import COMPONENT, WORKER
from modelloop.desired.names import worker_job_name

MODULE = "modelkit.train.worker"
_TRAINER_ONLY = ("podFailurePolicy", "podReplacementPolicy", "completions", "activeDeadlineSeconds", "suspend")
_VOLUMES = ("work", "store", "data")
"""What a worker needs of the trainer's; not the key that signs."""
_RESTARTS = 100
"""Of one pod in place, with the kubelet's growing pauses: workers go with the run anyway."""


def build_worker_job(job: dict[str, Any], workers: int, *, suspend: bool) -> dict[str, Any]:
    """The Job of `workers` pods beside the trainer's Job `job`; `suspend` leaves its start to a queue."""
    metadata, template = job["metadata"], job["spec"]["template"]
    component = {COMPONENT: WORKER, "app.kubernetes.io/name": f"modelloop-{WORKER}"}
    pod = {key: value for key, value in template["spec"].items() if key != "initContainers"}
    trainer = pod["containers"][0]
    worker = {
        **{key: value for key, value in trainer.items() if key != "ports"},
        "name": WORKER,
        "args": ["-m", MODULE],
        "volumeMounts": [mount for mount in trainer["volumeMounts"] if mount["name"] in _VOLUMES],
    }
    spec = {key: value for key, value in job["spec"].items() if key not in _TRAINER_ONLY}
    return {
        **job,
        "metadata": {
            **metadata,
            "name": worker_job_name(metadata["name"]),
            "labels": {**metadata["labels"], **component},
        },
        "spec": {
            **spec,
            **({"suspend": True} if suspend else {}),
            "parallelism": workers,
            "backoffLimit": _RESTARTS,
            "template": {
                **template,
                "metadata": {**template["metadata"], "labels": {**template["metadata"]["labels"], **component}},
                "spec": {
                    **pod,
                    "restartPolicy": "OnFailure",
                    "containers": [worker],
                    "volumes": [volume for volume in pod["volumes"] if volume["name"] in _VOLUMES],
                },
            },
        },
    }
