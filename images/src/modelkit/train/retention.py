"""Removes versions that nobody needs any more from the store, when a run has made a new one.

The operator says which are in use; whatever else the same ModelTraining's runs have left goes, half-written versions
too. The manifest goes first: what is removed in part is no version for any reader. Directories of another
ModelTraining of that name (deleted, or of another cluster that shares the bucket) are never touched.
"""

import logging
import re
from collections.abc import Iterable

from modelkit.contract.config import TrainerConfig
from modelkit.contract.files import MANIFEST, version_directory, version_name
from modelkit.errors import StoreError
from modelkit.store.store import Store

_VERSION = re.compile(r"([1-9][0-9]{0,8})-[0-9a-f]{8}")

logger = logging.getLogger(__name__)


def remove_old_versions(store: Store, config: TrainerConfig) -> tuple[str, ...]:
    """Remove what `config.keep_versions` doesn't name of this training's versions; returns the names removed.

    The run's own version stays, and those of later runs. A store that refuses ends nothing: the version is made, and
    the next run tries again.
    """
    if config.keep_versions is None or config.uid is None:
        return ()
    root = version_directory(config.namespace, config.name, "")
    removed: list[str] = []
    try:
        files = _files_by_version(entry.path for entry in store.list(root.rstrip("/")))
        for name in sorted(files):
            if _is_old(name, config):
                for file in sorted(files[name], key=lambda file: (file != MANIFEST, file)):
                    store.delete(f"{root}{name}/{file}")
                removed.append(name)
    except StoreError as exc:
        logger.warning("old versions couldn't be removed", extra={"error": str(exc), "removed": len(removed)})
    return tuple(removed)


def _files_by_version(paths: Iterable[str]) -> dict[str, list[str]]:
    """Files below each version's directory, from paths below the store's root."""
    found: dict[str, list[str]] = {}
    for path in paths:
        name, slash, file = path.split("/", 3)[3].partition("/")
        if slash:  # else something that lies beside the versions
            found.setdefault(name, []).append(file)
    return found


def _is_old(name: str, config: TrainerConfig) -> bool:
    match = _VERSION.fullmatch(name)
    if match is None or name == config.version or name in (config.keep_versions or ()):
        return False
    number = int(match[1])
    return number < config.number and name == version_name(config.uid or "", number)
