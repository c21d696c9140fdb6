"""Categories as codes or as mean targets: their place in the list of categories, then that place in a table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.train.converters.common import Graph, set_number_shape, width

_ML = "ai.onnx.ml"


def shape_encoder(operator: Any) -> None:
    """One column for each category column, or one for each of them and each class."""
    set_number_shape(operator, width(operator) * _outputs(operator.raw_operator))


def convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    """OrdinalEncoder and TargetEncoder of string columns."""
    from skl2onnx.common.data_types import StringTensorType

    if not all(isinstance(entry.type, StringTensorType) for entry in operator.inputs):
        raise NotImplementedError("only encoders of strings are converted")
    graph = Graph(scope, operator, container)
    parts = []
    for position, categories in enumerate(graph.transformer.categories_):
        place = graph.add(
            "LabelEncoder",
            graph.column(position),
            domain=_ML,
            version=2,
            keys_strings=[str(category).encode() for category in categories],
            values_int64s=list(range(len(categories))),
            default_int64=len(categories),
        )
        flat = graph.add("Reshape", place, np.array([-1]))
        parts.append(graph.add("Gather", _table(graph.transformer, position), flat, axis=0))
    graph.finish(graph.add("Concat", *parts, axis=1))


def _outputs(encoder: Any) -> int:
    return len(encoder.classes_) if getattr(encoder, "target_type_", None) == "multiclass" else 1


def _table(encoder: Any, position: int) -> NDArray[np.float64]:
    """[categories + 1, outputs]; the last row is that of a category that training didn't see."""
    if not hasattr(encoder, "encodings_"):
        codes = [*range(len(encoder.categories_[position])), encoder.unknown_value]
        return np.array(codes, dtype=np.float64).reshape(-1, 1)
    outputs = _outputs(encoder)
    encodings = encoder.encodings_[position * outputs : (position + 1) * outputs]
    unknown = np.broadcast_to(np.asarray(encoder.target_mean_, dtype=np.float64), outputs)
    return np.column_stack([np.append(values, mean) for values, mean in zip(encodings, unknown, strict=True)])
