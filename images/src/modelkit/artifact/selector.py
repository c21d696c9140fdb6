"""The pipeline step that leaves features out: scikit-learn's own selectors behind one set of parameters.

It is fitted like any step, so within each fold too. What remains of it is the mask: the forest or the linear model
that ranked the features isn't stored. It lives here, not beside the training code, because a server constructs it
when it loads model.skops; it must not import pandas or anything of `modelkit.train`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from modelkit.errors import RefusedError

CLASSIFICATION = "Classification"

_DEFAULT_SHARE = 0.5
_FOREST_TREES = 100
_L1_CLASSIFIER_C = 0.1
_L1_REGRESSOR_ALPHA = 0.01
_L1_THRESHOLD = 1e-5
"""scikit-learn's own for coefficients under an L1 penalty."""
_RFE_STEP = 0.1
"""Share of the features that a round of RFE leaves out."""
_ITERATIONS = 10_000

Matrix = NDArray[np.float64]


class FeatureSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Keeps the features that `method` ranks highest.

    Variance: variance of the feature. MutualInformation: `mutual_info_classif` or `mutual_info_regression`. Chi2:
    `chi2` of the features scaled to 0…1, because it takes no negative number. AnovaF: `f_classif` or `f_regression`.
    TreeImportance: impurity importance in a random forest. L1: size of the coefficients of a linear model with an L1
    penalty on the standardised features. RFE: recursive elimination by a linear model on the standardised features.

    `features` or `share` say how many stay. Without either, Variance, TreeImportance and L1 go by `threshold` (0, the
    mean importance, and 1e-5 when it is None), the others keep half. Features that are constant in the training rows
    are never kept. Fitted: `support_`, [n_features_in_] bool.
    """

    def __init__(
        self,
        method: str = "MutualInformation",
        *,
        features: int | None = None,
        share: float | None = None,
        threshold: float | None = None,
        task: str = CLASSIFICATION,
        seed: int = 0,
    ) -> None:
        self.method = method
        self.features = features
        self.share = share
        self.threshold = threshold
        self.task = task
        self.seed = seed

    def fit(self, X: Any, y: Any) -> "FeatureSelector":  # noqa: N803 (scikit-learn's names)
        """Choose from X [n, features] and the target y [n]; RefusedError when the wanted number can't be had."""
        values, target = validate_data(self, X, y, dtype=np.float64, ensure_all_finite=False, multi_output=False)
        self._refuse_missing(values)
        varies = values.max(axis=0) > values.min(axis=0)
        if not varies.any():
            raise RefusedError("NoFeatureSelected", "every feature is constant in the rows that are learnt from")
        wanted = self._wanted(len(varies))
        kept = self._choose(values[:, varies], target, None if wanted is None else min(wanted, int(varies.sum())))
        support = np.zeros(len(varies), dtype=bool)
        support[np.flatnonzero(varies)[kept]] = True
        self.support_ = support
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask: NDArray[np.bool_] = self.support_
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _wanted(self, found: int) -> int | None:
        """How many features stay; None: the threshold decides."""
        if self.features is not None:
            if self.features > found:
                raise RefusedError(
                    "TooManyFeatures",
                    f"featureSelection.features asks for {self.features} features, but preprocessing gives {found}; "
                    "ask for fewer, or for a share",
                )
            return int(self.features)
        if self.share is not None:
            return max(1, round(self.share * found))
        return None if self.method in {"Variance", "TreeImportance", "L1"} else max(1, round(_DEFAULT_SHARE * found))

    def _choose(self, values: Matrix, target: NDArray[Any], wanted: int | None) -> NDArray[np.intp]:
        """Positions of the features that stay, ascending."""
        if self.method == "RFE":
            assert wanted is not None
            return self._eliminate(values, target, wanted)
        scores = self._scores(values, target)
        if wanted is not None:
            # As SelectKBest: a stable sort, so that of equals the last ones stay.
            return np.sort(np.argsort(scores, kind="mergesort")[len(scores) - wanted :])
        limit = self._limit(scores)
        kept = np.flatnonzero(scores > limit if self.method == "Variance" else scores >= limit)
        if not len(kept):
            raise RefusedError(
                "NoFeatureSelected",
                f"no feature reaches featureSelection.threshold {limit:g} of {self.method}: the highest is "
                f"{float(scores.max()):g}; lower the threshold, or say how many features",
            )
        return kept

    def _limit(self, scores: Matrix) -> float:
        if self.threshold is not None:
            return self.threshold
        if self.method == "Variance":
            return 0.0
        return _L1_THRESHOLD if self.method == "L1" else float(scores.mean())

    def _scores(self, values: Matrix, target: NDArray[Any]) -> Matrix:
        from sklearn import feature_selection
        from sklearn.preprocessing import MinMaxScaler

        classes = self.task == CLASSIFICATION
        scores: Matrix
        if self.method == "Variance":
            return np.asarray(np.var(values, axis=0))
        if self.method == "MutualInformation":
            score = feature_selection.mutual_info_classif if classes else feature_selection.mutual_info_regression
            scores = score(values, target, random_state=self.seed)
            return scores
        if self.method == "Chi2":
            scores = feature_selection.chi2(MinMaxScaler().fit_transform(values), target)[0]
        elif self.method == "AnovaF":
            # A feature that is constant within each class divides by zero: it tells the class, and scores infinite.
            with np.errstate(divide="ignore", invalid="ignore"):
                score = feature_selection.f_classif if classes else feature_selection.f_regression
                scores = score(values, target)[0]
        elif self.method == "TreeImportance":
            return self._importances(values, target)
        else:
            return self._coefficients(values, target)
        return np.where(np.isnan(scores), -np.inf, scores)

    def _importances(self, values: Matrix, target: NDArray[Any]) -> Matrix:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        kind = RandomForestClassifier if self.task == CLASSIFICATION else RandomForestRegressor
        forest = kind(n_estimators=_FOREST_TREES, random_state=self.seed).fit(values, target)
        importances: Matrix = forest.feature_importances_
        return importances

    def _coefficients(self, values: Matrix, target: NDArray[Any]) -> Matrix:
        from sklearn.linear_model import Lasso
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        scaled = StandardScaler().fit_transform(values)
        if self.task == CLASSIFICATION:
            model = LinearSVC(
                penalty="l1", dual=False, C=_L1_CLASSIFIER_C, max_iter=_ITERATIONS, random_state=self.seed
            )
            return np.asarray(np.abs(model.fit(scaled, target).coef_).sum(axis=0))
        # The penalty is meant for a target of unit spread.
        standard = (target - target.mean()) / (target.std() or 1.0)
        lasso = Lasso(alpha=_L1_REGRESSOR_ALPHA, max_iter=_ITERATIONS)
        return np.asarray(np.abs(lasso.fit(scaled, standard).coef_))

    def _eliminate(self, values: Matrix, target: NDArray[Any], wanted: int) -> NDArray[np.intp]:
        from sklearn.feature_selection import RFE
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.preprocessing import StandardScaler

        model = LogisticRegression(max_iter=_ITERATIONS) if self.task == CLASSIFICATION else Ridge()
        ranking = RFE(model, n_features_to_select=wanted, step=_RFE_STEP)
        return np.flatnonzero(ranking.fit(StandardScaler().fit_transform(values), target).support_)

    def _refuse_missing(self, values: Matrix) -> None:
        if missing := int(np.isnan(values).any(axis=0).sum()):
            raise RefusedError(
                "BadSelection",
                f"{missing} features still miss values after preprocessing, by which they can't be ranked; use an "
                "imputation other than None",
            )
