"""Removes versions that nobody needs any more from the store: when a run has made a new one, or its training is gone.

The operator says which are in use; whatever else the same ModelTraining's runs have left goes, half-written versions
too. The manifest goes first: what is removed in part is no version for any reader. Directories of another
ModelTraining of that name (deleted, or of another cluster that shares the bucket) are never touched.
"""

import logging
import re
from collections.abc import Callable, Iterator

from modelkit.contract.config import RemovalConfig, TrainerConfig
from modelkit.contract.files import MANIFEST, run_directory, version_directory, version_name
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
    kept, uid = {config.version, *config.keep_versions}, config.uid
    root = version_directory(config.namespace, config.name, "")
    removed: list[str] = []

    def is_old(name: str) -> bool:
        number = _own_number(name, uid)
        return number is not None and number < config.number and name not in kept

    try:
        removed.extend(_remove_folders(store, root, is_old))
    except StoreError as exc:
        logger.warning("old versions couldn't be removed", extra={"error": str(exc), "removed": len(removed)})
    return tuple(removed)


def remove_all_versions(store: Store, config: RemovalConfig) -> tuple[str, ...]:
    """Remove what a deleted training has left, but for the versions in use; returns the versions removed.

    To be called when none of its runs is left. Raises StoreError.
    """

    def is_own(name: str) -> bool:
        return _own_number(name, config.uid) is not None

    def is_unused(name: str) -> bool:
        return is_own(name) and name not in config.keep_versions

    tuple(_remove_folders(store, run_directory(config.namespace, config.name, ""), is_own))
    return tuple(_remove_folders(store, version_directory(config.namespace, config.name, ""), is_unused))


def _remove_folders(store: Store, root: str, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    """Remove the files of wanted folders below `root`; gives the name of each folder that is done."""
    files: dict[str, list[str]] = {}
    for entry in store.list(root.rstrip("/")):
        name, slash, file = entry.path.removeprefix(root).partition("/")
        if slash:  # else something that lies beside the folders
            files.setdefault(name, []).append(file)
    for name in sorted(filter(is_wanted, files)):
        for file in sorted(files[name], key=lambda file: (file != MANIFEST, file)):
            store.delete(f"{root}{name}/{file}")
        yield name


def _own_number(name: str, uid: str) -> int | None:
    """The number of a version of that training; None for what isn't one."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) if match is not None and name == version_name(uid, int(match[1])) else None
