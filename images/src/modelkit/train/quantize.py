"""INT8 quantization of an exported network: weights and the inputs of its matrix products as 8-bit integers.

Static quantization, calibrated on rows that the model learnt from: with scales found anew for each request, an answer
would depend on the other rows of the batch. Weights have 7 of the 8 bits, because processors without VNNI saturate
when they add products of full 8 bits. Trees, kernels and neighbours have no matrix products, and linear models too few
for it to matter; they are left as they are.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelkit.artifact.model import onnx_feeds, open_onnx
from modelkit.artifact.signature import InputColumn
from modelkit.data.columns import as_array, take
from modelkit.evaluate.answers import Answers
from modelkit.train.export import Export, export_in_float32
from modelkit.train.parts import Labelled

_PRODUCTS = ("MatMul", "Gemm")
_CALIBRATION_ROWS = 1_000
_SMALLEST = 256
"""Weights of a matrix below which there is nothing to gain."""


def quantize(pipeline: Any, columns: Sequence[InputColumn], part: Labelled, native: Answers) -> Export | None:
    """The fitted pipeline as an INT8 ONNX model, calibrated on rows of `part`; None when it has no matrix to quantize.

    `native` are any of its answers; they tell which outputs the model has.
    """
    exported = export_in_float32(pipeline, columns, native)
    if exported.model is None or exported.layout is None or not (nodes := _products(exported.model)):
        return None
    rows = as_array(take(part.rows, np.arange(min(_CALIBRATION_ROWS, len(part.target)))))
    feeds = onnx_feeds(exported.layout, columns, rows)
    model = _quantize(exported.model, nodes, feeds)
    return Export(model, exported.layout, open_onnx(model))


def _products(model: bytes) -> list[str]:
    """Names of the matrix products with a constant matrix that is large enough."""
    import onnx

    graph = onnx.load_from_string(model).graph
    large = {entry.name for entry in graph.initializer if int(np.prod(entry.dims)) >= _SMALLEST and len(entry.dims) > 1}
    return [node.name for node in graph.node if node.op_type in _PRODUCTS and large & set(node.input)]


def _quantize(model: bytes, nodes: list[str], feeds: dict[str, Any]) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Rows(CalibrationDataReader):  # type: ignore[misc]
        """All calibration rows as one batch."""

        def __init__(self) -> None:
            self._batches: Iterator[dict[str, Any]] = iter([feeds])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._batches, None)

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises through the root logger to prepare the model for convolutions
    try:
        with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
            path = Path(folder) / "model.onnx"
            quantize_static(
                onnx.load_from_string(model),
                path,
                Rows(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_PRODUCTS),
                nodes_to_quantize=nodes,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return path.read_bytes()
    finally:
        logger.setLevel(level)
