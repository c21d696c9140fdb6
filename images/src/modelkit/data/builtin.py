"""The data sets that scikit-learn brings along, whole or a slice of them."""

import re
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from modelkit.contract.config import DataConfig
from modelkit.contract.estimators import BUILTIN_DATASETS
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError

_SLICE = re.compile(r"(-?\d*):(-?\d*)")


def read_builtin(config: DataConfig) -> pd.DataFrame:
    """`builtin://<name>`, with the column `target`; `?rows=start:stop` slices its shipped order, as in Python.

    Raises RefusedError (DataNotFound, BadDataAddress).
    """
    parts = urlsplit(config.uri)
    loader = BUILTIN_DATASETS.get(parts.netloc)
    if loader is None or parts.path not in {"", "/"}:
        raise RefusedError(
            "DataNotFound",
            f"there is no data set {config.display_uri}; built in are: {', '.join(BUILTIN_DATASETS)}"
            + suggest(parts.netloc, BUILTIN_DATASETS),
        )
    import sklearn.datasets

    frame: pd.DataFrame = getattr(sklearn.datasets, loader)(as_frame=True).frame
    options = parse_qs(parts.query, keep_blank_values=True)
    if not options:
        return frame
    match = _SLICE.fullmatch(options.get("rows", [""])[0])
    if match is None or set(options) != {"rows"}:
        raise RefusedError(
            "BadDataAddress",
            f"the data address {config.display_uri} must end in ?rows=start:stop, such as ?rows=0:300",
        )
    start, stop = (int(bound) if bound else None for bound in match.groups())
    return frame.iloc[start:stop].reset_index(drop=True)
