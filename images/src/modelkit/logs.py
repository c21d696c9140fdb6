"""JSON logging of every workload process, set up once by its main."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def set_up_logging(level: int = logging.INFO) -> None:
    """Write one JSON object per record to stderr. Feature values must never be passed to a logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
