"""Builds the containers of a run that come before the trainer's: the user's own, and the step that feeds them.

What each may see is the point of it. The image that trains gets two folders and nothing else: no store, no data claim,
no Secret, and no volume in which the truth of the test part could be found.
"""

from dataclasses import dataclass, replace
from typing import Any

from modelkit.contract.environment import METRICS_PORT
from modelkit.contract.exchange import (
    CUSTOM,
    INPUTS_VARIABLE,
    NAME_VARIABLE,
    NAMESPACE_VARIABLE,
    OUTPUTS_VARIABLE,
    PREPARE,
    RUN_VARIABLE,
    STAGE,
    WORK_VARIABLE,
)
from modelkit.contract.files import DATA_MOUNT, WORK_DATA, WORK_MOUNT
from modelkit.contract.recipe import CustomConfig
from modelloop.api.custom import Prepare, UsersContainer
from modelloop.api.training import ModelTrainingSpec
from modelloop.desired.users import build_users_container
from modelloop.desired.workload import (
    Main,
    Mount,
    Mounts,
    Secrets,
    WorkloadSettings,
    build_container,
)

INPUTS = f"{WORK_MOUNT}/inputs"
OUTPUTS = f"{WORK_MOUNT}/outputs"
_PREPARED = "prepared"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunName:
    """Which run a container belongs to."""

    namespace: str
    name: str
    number: int


def build_custom(spec: ModelTrainingSpec) -> CustomConfig | None:
    """The part of the trainer's configuration for a model of the user's own image."""
    return CustomConfig(inputs=INPUTS, outputs=OUTPUTS, params=spec.params) if spec.command else None


def trainer_image(spec: ModelTrainingSpec, settings: WorkloadSettings) -> str:
    """With a command, `spec.image` is another container's."""
    return settings.trainer_image if spec.command else spec.image or settings.trainer_image


def prepare_claim(spec: ModelTrainingSpec) -> str | None:
    """The claim that only the preparing image asked for."""
    return spec.prepare.claim_ref.name if spec.prepare is not None and spec.prepare.claim_ref is not None else None


def trainer_mounts(spec: ModelTrainingSpec) -> tuple[Mount, ...]:
    """What the trainer's own container sees of the others'."""
    prepared = (Mount(name=_PREPARED, path=WORK_DATA, read_only=True),) if spec.prepare is not None else ()
    outputs = (Mount(name="outputs", path=OUTPUTS, read_only=True),) if spec.command else ()
    return prepared + outputs


def build_steps(
    spec: ModelTrainingSpec,
    run: RunName,
    main: Main,
    settings: WorkloadSettings,
    mounts: Mounts,
    secrets: Secrets,
) -> tuple[dict[str, Any], ...]:
    """The init containers of a run, in the order in which they run."""
    steps = [] if spec.prepare is None else [_build_prepare(spec.prepare, run, settings, mounts)]
    if spec.command:
        others = (*(mount for mount in mounts.others if mount.name == _PREPARED), Mount(name="inputs", path=INPUTS))
        stage = replace(main, name=STAGE, arguments=("stage",))
        container, _ = build_container(stage, settings, replace(mounts, others=others), secrets)
        steps += [container, _build_custom_container(spec, run, settings)]
    return tuple(steps)


def _build_prepare(prepare: Prepare, run: RunName, settings: WorkloadSettings, mounts: Mounts) -> dict[str, Any]:
    container = build_users_container(
        PREPARE,
        prepare,
        settings,
        variables={WORK_VARIABLE: WORK_DATA, **_about(run)},
        mounts=(Mount(name=_PREPARED, path=WORK_DATA),),
    )
    if mounts.data_claim is not None:
        path = f"{DATA_MOUNT}/{mounts.data_claim}"
        container["volumeMounts"].append({"name": "data", "mountPath": path, "readOnly": True})
    return container


def _build_custom_container(spec: ModelTrainingSpec, run: RunName, settings: WorkloadSettings) -> dict[str, Any]:
    stated = UsersContainer(image=spec.image or "", command=spec.command, args=spec.args, resources=spec.resources)
    container = build_users_container(
        CUSTOM,
        stated,
        settings,
        variables={INPUTS_VARIABLE: INPUTS, OUTPUTS_VARIABLE: OUTPUTS, **_about(run)},
        mounts=(Mount(name="inputs", path=INPUTS, read_only=True), Mount(name="outputs", path=OUTPUTS)),
    )
    container["ports"] = [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}]
    return container


def _about(run: RunName) -> dict[str, str]:
    return {NAME_VARIABLE: run.name, NAMESPACE_VARIABLE: run.namespace, RUN_VARIABLE: str(run.number)}
