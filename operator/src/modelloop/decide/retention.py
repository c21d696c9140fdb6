"""Decides which stored versions must stay. Pure: what any status names is in use."""

from collections.abc import Iterable

from modelkit.contract.files import version_directory
from modelloop.api.training import ModelTrainingStatus


def decide_kept_versions(
    status: ModelTrainingStatus, served: Iterable[str], *, namespace: str, name: str
) -> tuple[str, ...]:
    """Names of the version directories of a training that a run must leave alone.

    Those of the history (each may be approved), the champion's, and whatever of `served`, the paths that any
    ModelDeployment's status names, belongs to the training.
    """
    paths = {record.path for record in status.history if record.path}
    if status.champion is not None:
        paths.add(status.champion.path)
    prefix = version_directory(namespace, name, "")
    return tuple(sorted(path.removeprefix(prefix) for path in paths | set(served) if path.startswith(prefix)))
