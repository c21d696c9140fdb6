"""ONNX for the transformers that skl2onnx doesn't convert, or only in float32.

Everything is in the dtype of the numbers that come in: preprocessing in float64 is what makes parity with
scikit-learn possible. Categories and words are found by position in a table, which keeps models small and their
conversion quick. A converter is `(scope, operator, container)`, as skl2onnx calls it.
"""

from collections.abc import Callable, Mapping
from typing import Any

Converter = Callable[[Any, Any, Any], None]
ShapeCalculator = Callable[[Any], None]


def find_converters() -> tuple[Mapping[type, Converter], Mapping[type, ShapeCalculator]]:
    """By class: the converters, and the shapes of outputs where skl2onnx doesn't know the class or its float64."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OrdinalEncoder, PowerTransformer, QuantileTransformer, TargetEncoder

    from modelkit.artifact.selector import FeatureSelector
    from modelkit.artifact.transformers import TimeFeatures, Words
    from modelkit.train.converters import encoders, features, numbers, words

    converters = {
        FeatureSelector: features.convert_selector,
        OrdinalEncoder: encoders.convert_encoder,
        PowerTransformer: numbers.convert_power,
        QuantileTransformer: numbers.convert_quantile,
        SimpleImputer: numbers.convert_imputer,
        TargetEncoder: encoders.convert_encoder,
        TimeFeatures: features.convert_times,
        Words: words.convert_tfidf,
    }
    shapes = {
        FeatureSelector: features.shape_selector,
        OrdinalEncoder: encoders.shape_encoder,
        PowerTransformer: numbers.shape_unchanged,
        QuantileTransformer: numbers.shape_unchanged,
        TargetEncoder: encoders.shape_encoder,
        TimeFeatures: features.shape_times,
        Words: words.shape_tfidf,
    }
    return converters, shapes
