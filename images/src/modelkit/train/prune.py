"""Cost-complexity pruning: which `ccp_alpha` values are worth trying for a fitted tree or ensemble of trees.

Minimal cost-complexity pruning is that of Breiman, Friedman, Olshen and Stone, Classification and Regression Trees
(1984), as scikit-learn has it.
"""

from typing import Any

import numpy as np

ALPHA = "ccp_alpha"

_TREES = 10
"""Trees of an ensemble whose alphas are looked at; they are much alike."""
_STEPS = 12


def can_be_pruned(model: Any) -> bool:
    """Does the estimator take a `ccp_alpha`?"""
    return ALPHA in model.get_params(deep=False)


def propose_alphas(model: Any) -> list[float]:
    """At most 12 values of `ccp_alpha` for a fitted tree, forest or gradient boosting, largest first.

    They are quantiles of the effective alphas, at which a tree loses its weakest branch, above the one that the model
    has already. Empty when its trees have no branch to lose.
    """
    from sklearn.tree._tree import ccp_pruning_path

    trees = np.ravel(getattr(model, "estimators_", [model]))[:_TREES]
    found = np.concatenate([np.asarray(ccp_pruning_path(tree.tree_)["ccp_alphas"]) for tree in trees])
    # A hair above each, for the branch to go: a tree is pruned where its alpha is below.
    alphas = np.unique(found[found > max(model.ccp_alpha, 0.0)]) * (1 + 1e-9)
    if not len(alphas):
        return []
    chosen = np.quantile(alphas, np.linspace(0, 1, min(_STEPS, len(alphas))), method="nearest")
    return [float(alpha) for alpha in np.unique(chosen)[::-1]]
