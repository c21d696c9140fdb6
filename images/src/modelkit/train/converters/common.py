"""A small way to write ONNX nodes.

skl2onnx's own algebra writes a value that is used twice twice, and with it all that it is made of: a graph in which
every step uses its predecessor twice grows exponentially. Here each value is written once and has a name.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Graph:
    """Writes the nodes of one converted transformer, whose inputs are joined to one matrix `values`."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope = scope
        self._container = container
        self._output = operator.outputs[0].full_name
        self.transformer = operator.raw_operator
        self.dtype = dtype_of(operator)
        names = [entry.full_name for entry in operator.inputs]
        self.values: str = names[0] if len(names) == 1 else self.add("Concat", *names, axis=1)

    def add(
        self, kind: str, *inputs: Any, domain: str = "", version: int | None = None, name: str = "", **attributes: Any
    ) -> str:
        """The name of one more node's output; inputs are such names, arrays, or numbers in the dtype of `values`."""
        output: str = name or self._scope.get_unique_variable_name(f"{kind}_out")
        self._container.add_node(
            kind,
            [entry if isinstance(entry, str) else self._constant(entry) for entry in inputs],
            output,
            op_domain=domain,
            op_version=version,
            name=self._scope.get_unique_operator_name(kind),
            **attributes,
        )
        return output

    def finish(self, result: str) -> None:
        """`result` is what the transformer gives."""
        self.add("Identity", result, name=self._output)

    def column(self, position: int) -> str:
        """One column of the values, [n, 1]."""
        return self.add("Gather", self.values, np.array([position]), axis=1)

    def select(self, condition: str, chosen: Any, other: Any) -> str:
        """`chosen` where the condition holds, else `other`."""
        return self.add("Where", condition, chosen, other)

    def _constant(self, value: Any) -> str:
        from onnx.helper import np_dtype_to_tensor_dtype

        array: NDArray[Any] = np.asarray(value, dtype=self.dtype) if isinstance(value, float) else np.asarray(value)
        name: str = self._scope.get_unique_variable_name("constant")
        if array.dtype.kind in "OU":
            content: list[Any] = [str(text).encode() for text in array.ravel()]
            kind = _STRING
        else:
            content, kind = array.ravel().tolist(), np_dtype_to_tensor_dtype(array.dtype)
        self._container.add_initializer(name, kind, list(array.shape), content)
        return name


_STRING = 8
"""TensorProto.STRING."""


def width(operator: Any) -> int:
    """Columns of all inputs together."""
    return sum(entry.type.shape[1] for entry in operator.inputs)


def dtype_of(operator: Any) -> Any:
    """float32 where that comes in, else float64: strings have no precision to keep to."""
    from skl2onnx.common.data_types import FloatTensorType

    return np.float32 if isinstance(operator.inputs[0].type, FloatTensorType) else np.float64


def set_number_shape(operator: Any, columns: int) -> None:
    """The output is [n, columns] numbers of the input's dtype."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = FloatTensorType if dtype_of(operator) is np.float32 else DoubleTensorType
    operator.outputs[0].type = kind([None, columns])
