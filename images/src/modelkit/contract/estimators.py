"""The estimators a candidate may name: an allow-list, so that a manifest can't import arbitrary code."""

from types import MappingProxyType

CLASSIFIERS = MappingProxyType(
    {
        "AdaBoostClassifier": "sklearn.ensemble",
        "BaggingClassifier": "sklearn.ensemble",
        "BernoulliNB": "sklearn.naive_bayes",
        "ComplementNB": "sklearn.naive_bayes",
        "DecisionTreeClassifier": "sklearn.tree",
        "ExtraTreeClassifier": "sklearn.tree",
        "ExtraTreesClassifier": "sklearn.ensemble",
        "GaussianNB": "sklearn.naive_bayes",
        "GradientBoostingClassifier": "sklearn.ensemble",
        "HistGradientBoostingClassifier": "sklearn.ensemble",
        "KNeighborsClassifier": "sklearn.neighbors",
        "LinearDiscriminantAnalysis": "sklearn.discriminant_analysis",
        "LinearSVC": "sklearn.svm",
        "LogisticRegression": "sklearn.linear_model",
        "LogisticRegressionCV": "sklearn.linear_model",
        "MLPClassifier": "sklearn.neural_network",
        "MultinomialNB": "sklearn.naive_bayes",
        "NearestCentroid": "sklearn.neighbors",
        "NuSVC": "sklearn.svm",
        "Perceptron": "sklearn.linear_model",
        "QuadraticDiscriminantAnalysis": "sklearn.discriminant_analysis",
        "RandomForestClassifier": "sklearn.ensemble",
        "RidgeClassifier": "sklearn.linear_model",
        "RidgeClassifierCV": "sklearn.linear_model",
        "SGDClassifier": "sklearn.linear_model",
        "SVC": "sklearn.svm",
    }
)
REGRESSORS = MappingProxyType(
    {
        "ARDRegression": "sklearn.linear_model",
        "AdaBoostRegressor": "sklearn.ensemble",
        "BaggingRegressor": "sklearn.ensemble",
        "BayesianRidge": "sklearn.linear_model",
        "DecisionTreeRegressor": "sklearn.tree",
        "ElasticNet": "sklearn.linear_model",
        "ElasticNetCV": "sklearn.linear_model",
        "ExtraTreeRegressor": "sklearn.tree",
        "ExtraTreesRegressor": "sklearn.ensemble",
        "GammaRegressor": "sklearn.linear_model",
        "GradientBoostingRegressor": "sklearn.ensemble",
        "HistGradientBoostingRegressor": "sklearn.ensemble",
        "HuberRegressor": "sklearn.linear_model",
        "KNeighborsRegressor": "sklearn.neighbors",
        "KernelRidge": "sklearn.kernel_ridge",
        "Lars": "sklearn.linear_model",
        "LarsCV": "sklearn.linear_model",
        "Lasso": "sklearn.linear_model",
        "LassoCV": "sklearn.linear_model",
        "LassoLars": "sklearn.linear_model",
        "LassoLarsCV": "sklearn.linear_model",
        "LassoLarsIC": "sklearn.linear_model",
        "LinearRegression": "sklearn.linear_model",
        "LinearSVR": "sklearn.svm",
        "MLPRegressor": "sklearn.neural_network",
        "NuSVR": "sklearn.svm",
        "OrthogonalMatchingPursuit": "sklearn.linear_model",
        "OrthogonalMatchingPursuitCV": "sklearn.linear_model",
        "PLSRegression": "sklearn.cross_decomposition",
        "PoissonRegressor": "sklearn.linear_model",
        "QuantileRegressor": "sklearn.linear_model",
        "RANSACRegressor": "sklearn.linear_model",
        "RandomForestRegressor": "sklearn.ensemble",
        "Ridge": "sklearn.linear_model",
        "RidgeCV": "sklearn.linear_model",
        "SGDRegressor": "sklearn.linear_model",
        "SVR": "sklearn.svm",
        "TheilSenRegressor": "sklearn.linear_model",
        "TweedieRegressor": "sklearn.linear_model",
    }
)
ESTIMATORS = MappingProxyType({**CLASSIFIERS, **REGRESSORS})
LEFT_OUT = MappingProxyType(
    {
        "CalibratedClassifierCV": "wraps another estimator",
        "CategoricalNB": "a category that training didn't see is an error when it answers",
        "GaussianProcessClassifier": "its kernel is an object, and the default one learns nothing about the features",
        "GaussianProcessRegressor": "its kernel is an object, and the default one learns nothing about the features",
        "IsotonicRegression": "takes one feature only",
        "LabelPropagation": "semi-supervised: -1 in the target would mean that there is no label",
        "LabelSpreading": "semi-supervised: -1 in the target would mean that there is no label",
        "PassiveAggressiveClassifier": "deprecated: SGDClassifier with loss hinge and learning_rate pa1 or pa2",
        "PassiveAggressiveRegressor": "deprecated: SGDRegressor with loss epsilon_insensitive and learning_rate pa1",
        "RadiusNeighborsClassifier": "has no answer to a row without neighbours; use KNeighborsClassifier",
        "RadiusNeighborsRegressor": "has no answer to a row without neighbours; use KNeighborsRegressor",
        "SelfTrainingClassifier": "wraps another estimator",
        "StackingClassifier": "wraps other estimators",
        "StackingRegressor": "wraps other estimators",
        "VotingClassifier": "wraps other estimators",
        "VotingRegressor": "wraps other estimators",
    }
)
"""What scikit-learn has beside them for one target, and why a candidate can't name it. A wrapped estimator would be an
object inside `params`, whose own parameters and seed nothing checks."""

BUILTIN_DATASETS = MappingProxyType(
    {
        "breast_cancer": "load_breast_cancer",
        "diabetes": "load_diabetes",
        "digits": "load_digits",
        "iris": "load_iris",
        "wine": "load_wine",
    }
)
"""`builtin://<name>`: the data sets that scikit-learn carries, and its loaders."""
