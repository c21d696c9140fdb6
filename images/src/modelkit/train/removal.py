"""`python -m modelkit.train.removal`: remove the versions of a ModelTraining that was deleted from the store."""

import logging
import os
import sys
from collections.abc import Mapping

from modelkit.contract import environment
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import RemovalConfig
from modelkit.contract.environment import ExitCode
from modelkit.errors import StoreError
from modelkit.logs import set_up_logging
from modelkit.store.store import Store
from modelkit.train.retention import remove_all_versions
from modelkit.train.stopping import stop_at_sigterm

logger = logging.getLogger("modelkit.train.removal")


def main(environ: Mapping[str, str]) -> ExitCode:
    """Remove what `environ` describes; what is gone already is no error, so it may be tried again."""
    set_up_logging()
    try:
        config = loads(RemovalConfig, environ.get(environment.CONFIG, ""))
        removed = remove_all_versions(Store.open(config.store, environ), config)
    except (ContractError, StoreError) as exc:
        logger.error("versions couldn't be removed", extra={"error": str(exc)})
        return ExitCode.FAILED
    logger.info("versions removed", extra={"training": config.name, "removed": removed, "kept": config.keep_versions})
    return ExitCode.DONE


if __name__ == "__main__":
    stop_at_sigterm()
    sys.exit(main(os.environ))
