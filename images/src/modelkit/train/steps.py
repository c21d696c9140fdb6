"""A treatment as scikit-learn's transformers, in their order."""

from typing import Any

from modelkit.artifact.signature import MISSING_TEXT
from modelkit.train.treatment import CATEGORICAL, TEXT, TIME, Treatment

Steps = list[tuple[str, Any]]

QUANTILES = 100
"""Landmarks of the quantile transform."""
WORDS = 2_000
"""Most words, or hashes, that a text column is turned into."""
DENSE_WORDS = 300
"""The same where most of a matrix's zeros have to be stored: for estimators without sparse input, and selection."""
TOKEN = r"(?u)\b\w+\b"  # noqa: S105 (a pattern of words)
"""scikit-learn's, but words of one character too, which some languages have."""

_STRATEGIES = {"Mean": "mean", "Median": "median", "MostFrequent": "most_frequent", "Constant": "constant"}
_SCALERS = {"Standard": "StandardScaler", "MinMax": "MinMaxScaler", "Robust": "RobustScaler"}
_TARGET_FOLDS = 5


def build_steps(treatment: Treatment, *, is_classification: bool, is_dense: bool, seed: int, fewest: int) -> Steps:
    """Named transformers for columns of one treatment; none when they pass through.

    `seed` is that of the folds of target encoding; `fewest` is the number of rows that a fit may count on.
    """
    if treatment.kind == TEXT:
        return [("words", _vectorizer(treatment, DENSE_WORDS if is_dense else WORDS))]
    fill, scale = _imputer(treatment), _scaler(treatment)
    if treatment.kind == TIME:
        from modelkit.artifact.transformers import TimeFeatures

        return [*fill, ("times", TimeFeatures()), *scale]
    if treatment.kind == CATEGORICAL:
        # Codes and mean targets are numbers like others.
        return [*fill, ("encode", _encoder(treatment, is_classification, seed)), *scale]
    shape = _transformer(treatment, fewest, seed)
    # Neighbours are near in the scaled columns; transformers and scalers pass missing numbers on.
    return [*shape, *scale, *fill] if treatment.imputation == "KNN" else [*fill, *shape, *scale]


def _imputer(treatment: Treatment) -> Steps:
    from sklearn.impute import KNNImputer, SimpleImputer

    if treatment.imputation == "None":
        return []
    # A fold may have no value at all of a sparse column, which must not change the number of columns.
    options: dict[str, Any] = {"keep_empty_features": True}
    if treatment.imputation == "KNN":
        return [("impute", KNNImputer(**options))]
    options["strategy"] = _STRATEGIES[treatment.imputation]
    if treatment.imputation == "Constant":
        options["fill_value"] = treatment.fill
    if treatment.kind == CATEGORICAL:
        options["missing_values"] = MISSING_TEXT
    return [("impute", SimpleImputer(**options))]


def _transformer(treatment: Treatment, fewest: int, seed: int) -> Steps:
    from sklearn.preprocessing import PowerTransformer, QuantileTransformer

    if treatment.transform == "Power":
        return [("transform", PowerTransformer(method="yeo-johnson", standardize=False))]  # scaling is the next step
    if treatment.transform == "Quantile":
        quantiles = max(2, min(QUANTILES, fewest))
        # All rows rather than a random part of them.
        transformer = QuantileTransformer(
            n_quantiles=quantiles, output_distribution="normal", subsample=None, random_state=seed
        )
        return [("transform", transformer)]
    return []


def _scaler(treatment: Treatment) -> Steps:
    from sklearn import preprocessing

    if treatment.scaling == "None":
        return []
    return [("scale", getattr(preprocessing, _SCALERS[treatment.scaling])())]


def _encoder(treatment: Treatment, is_classification: bool, seed: int) -> Any:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

    if treatment.encoding == "OneHot":
        return OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if treatment.encoding == "Ordinal":
        return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    # Within the training part, a row's own target must not be in the mean that it is learnt with.
    folds = (StratifiedKFold if is_classification else KFold)(_TARGET_FOLDS, shuffle=True, random_state=seed)
    # Asked to find out, the encoder takes whole numbers for classes.
    return TargetEncoder(target_type="auto" if is_classification else "continuous", cv=folds)


def _vectorizer(treatment: Treatment, words: int) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    from modelkit.artifact.transformers import Words

    if treatment.text == "Hashing":
        # Without signs, so that estimators that count take it too.
        return HashingVectorizer(n_features=words, alternate_sign=False, token_pattern=TOKEN)
    return Words(max_features=words, sublinear_tf=True, token_pattern=TOKEN)
