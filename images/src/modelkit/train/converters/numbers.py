"""Imputation, Yeo-Johnson's and the quantile transform of numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelkit.train.converters.common import Graph, set_number_shape, width

_CENTRE = 0.425
_CENTRE_SQUARED = 0.180625
_TAIL = 1.6
_CENTRE_ABOVE = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
_CENTRE_BELOW = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
_TAIL_ABOVE = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
_TAIL_BELOW = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
_BOUND = 1e-7
"""scikit-learn's BOUNDS_THRESHOLD of the quantile transform."""


def shape_unchanged(operator: Any) -> None:
    """As many columns as come in."""
    set_number_shape(operator, width(operator))


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """SimpleImputer from standard operators: ONNX Runtime's own Imputer has no float64."""
    from skl2onnx.common.data_types import StringTensorType

    graph = Graph(scope, operator, container)
    imputer = graph.transformer
    if isinstance(operator.inputs[0].type, StringTensorType):
        fill = np.asarray(imputer.statistics_, dtype=object).astype(str)
        missing = graph.add("Equal", graph.values, np.array([imputer.missing_values]))
    else:
        fill = np.asarray(imputer.statistics_).astype(graph.dtype)
        missing = graph.add("IsNaN", graph.values)
    graph.finish(graph.select(missing, fill.reshape(1, -1), graph.values))


def convert_power(scope: Any, operator: Any, container: Any) -> None:
    """Yeo-Johnson's transform (Biometrika 87, 2000) with the fitted exponents; not standardised."""
    graph = Graph(scope, operator, container)
    transformer, values = graph.transformer, graph.values
    if transformer.method != "yeo-johnson" or transformer.standardize:
        raise NotImplementedError("only Yeo-Johnson's transform without standardisation is converted")
    above = _half(graph, graph.add("Max", values, 0.0), transformer.lambdas_)
    below = _half(graph, graph.add("Neg", graph.add("Min", values, 0.0)), 2 - transformer.lambdas_)
    shaped = graph.add("Sub", above, below)  # one of the halves is 0
    graph.finish(graph.select(graph.add("IsNaN", values), values, shaped))


def _half(graph: Graph, values: str, exponents: NDArray[np.float64]) -> str:
    """((values + 1) ** exponent - 1) / exponent for values from 0, or its limit, the logarithm, for exponent 0."""
    flat = np.abs(exponents) < np.spacing(1.0)
    powers = np.where(flat, 1.0, exponents).astype(graph.dtype).reshape(1, -1)
    base = graph.add("Add", values, 1.0)
    curve = graph.add("Div", graph.add("Sub", graph.add("Pow", base, powers), 1.0), powers)
    if not flat.any():
        return curve
    return graph.add("Where", flat.reshape(1, -1), graph.add("Log", base), curve)


def convert_quantile(scope: Any, operator: Any, container: Any) -> None:
    """QuantileTransformer to a normal distribution: the share by interpolation between landmarks, then its quantile.

    As in scikit-learn the share is the mean of interpolating upwards and downwards, which differ at repeated
    landmarks. Their places are found by bisection, so the work grows with the logarithm of the landmarks.
    """
    graph = Graph(scope, operator, container)
    transformer, values = graph.transformer, graph.values
    if transformer.output_distribution != "normal":
        raise NotImplementedError("only the quantile transform to a normal distribution is converted")
    landmarks = transformer.quantiles_.astype(graph.dtype)  # [landmarks, columns]
    table = _Landmarks(graph, landmarks, transformer.references_.astype(graph.dtype))
    both = graph.add("Add", table.share(from_above=False), table.share(from_above=True))
    share = graph.add("Mul", both, 0.5)
    above = graph.add("Greater", graph.add("Add", values, _BOUND), landmarks[-1:])
    below = graph.add("Less", graph.add("Sub", values, _BOUND), landmarks[:1])
    share = graph.select(below, 0.0, graph.select(above, 1.0, share))
    least = float(_BOUND - np.spacing(1.0))
    share = graph.add("Clip", share, least, 1 - least)
    graph.finish(graph.select(graph.add("IsNaN", values), values, _normal_quantile(graph, share)))


class _Landmarks:
    """Interpolation in one table for all columns."""

    def __init__(self, graph: Graph, landmarks: NDArray[Any], references: NDArray[Any]) -> None:
        self._graph = graph
        self._count, columns = landmarks.shape
        self._flat = landmarks.T.reshape(-1)
        self._references = references
        self._offsets = (np.arange(columns, dtype=np.int64) * self._count).reshape(1, -1)

    def share(self, *, from_above: bool) -> str:
        """Share of the landmarks' range below each value, for values between the first and the last landmark."""
        graph = self._graph
        before = graph.add("Sub", self._passed(strictly=from_above), 1)
        left = graph.add("Clip", before, 0, self._count - 2)
        right = graph.add("Add", left, 1)
        start, end = self._landmark(left), self._landmark(right)
        low, high = (graph.add("Gather", self._references, place, axis=0) for place in (left, right))
        run = graph.add("Sub", end, start)
        # Outside of the landmarks the result isn't used, but mustn't divide by zero.
        run = graph.select(graph.add("Equal", run, 0.0), 1.0, run)
        slope = graph.add("Div", graph.add("Sub", high, low), run)
        distance = graph.add("Sub", graph.values, start)
        return graph.add("Add", low, graph.add("Mul", slope, distance))

    def _passed(self, *, strictly: bool) -> str:
        """How many landmarks are at most (strictly: less than) each value, by bisection; [n, columns]."""
        graph = self._graph
        passed = graph.add("Cast", graph.add("IsNaN", graph.values), to=_INT64)
        passed = graph.add("Mul", passed, 0)
        for power in reversed(range(self._count.bit_length())):
            further = graph.add("Add", passed, 1 << power)
            within = graph.add("Not", graph.add("Greater", further, self._count))
            landmark = self._landmark(graph.add("Sub", graph.add("Min", further, self._count), 1))
            if strictly:
                reached = graph.add("Less", landmark, graph.values)
            else:
                reached = graph.add("Not", graph.add("Greater", landmark, graph.values))
            passed = graph.select(graph.add("And", within, reached), further, passed)
        return passed

    def _landmark(self, places: str) -> str:
        return self._graph.add("Gather", self._flat, self._graph.add("Add", places, self._offsets), axis=0)


_INT64 = 7
"""TensorProto.INT64."""


def _normal_quantile(graph: Graph, share: str) -> str:
    """Quantile of the standard normal distribution: Wichura's AS 241 (Applied Statistics 37, 1988), PPND16.

    For shares from 1e-11, which need no third branch; accurate to about 1e-16.
    """
    offset = graph.add("Sub", share, 0.5)
    inner = graph.add("Sub", _CENTRE_SQUARED, graph.add("Mul", offset, offset))
    ratio = graph.add("Div", _polynomial(graph, inner, _CENTRE_ABOVE), _polynomial(graph, inner, _CENTRE_BELOW))
    centre = graph.add("Mul", offset, ratio)
    rest = graph.add("Min", share, graph.add("Sub", 1.0, share))
    outer = graph.add("Sub", graph.add("Sqrt", graph.add("Neg", graph.add("Log", rest))), _TAIL)
    size = graph.add("Div", _polynomial(graph, outer, _TAIL_ABOVE), _polynomial(graph, outer, _TAIL_BELOW))
    tail = graph.select(graph.add("Less", offset, 0.0), graph.add("Neg", size), size)
    is_central = graph.add("Not", graph.add("Greater", graph.add("Abs", offset), _CENTRE))
    return graph.select(is_central, centre, tail)


def _polynomial(graph: Graph, values: str, coefficients: tuple[float, ...]) -> str:
    """Horner's scheme; the constant term comes first."""
    *others, result = coefficients
    total: Any = result
    for coefficient in reversed(others):
        total = graph.add("Add", graph.add("Mul", values, total), coefficient)
    return str(total)
