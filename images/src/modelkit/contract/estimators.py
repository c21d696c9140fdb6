"""The estimators a candidate may name: an allow-list, so that a manifest can't import arbitrary code."""

from types import MappingProxyType

CLASSIFIERS = MappingProxyType(
    {
        "AdaBoostClassifier": "sklearn.ensemble",
        "BaggingClassifier": "sklearn.ensemble",
        "BernoulliNB": "sklearn.naive_bayes",
        "DecisionTreeClassifier": "sklearn.tree",
        "ExtraTreesClassifier": "sklearn.ensemble",
        "GaussianNB": "sklearn.naive_bayes",
        "GradientBoostingClassifier": "sklearn.ensemble",
        "HistGradientBoostingClassifier": "sklearn.ensemble",
        "KNeighborsClassifier": "sklearn.neighbors",
        "LinearDiscriminantAnalysis": "sklearn.discriminant_analysis",
        "LogisticRegression": "sklearn.linear_model",
        "MLPClassifier": "sklearn.neural_network",
        "QuadraticDiscriminantAnalysis": "sklearn.discriminant_analysis",
        "RandomForestClassifier": "sklearn.ensemble",
        "RidgeClassifier": "sklearn.linear_model",
        "SGDClassifier": "sklearn.linear_model",
        "SVC": "sklearn.svm",
    }
)
REGRESSORS = MappingProxyType(
    {
        "AdaBoostRegressor": "sklearn.ensemble",
        "BaggingRegressor": "sklearn.ensemble",
        "BayesianRidge": "sklearn.linear_model",
        "DecisionTreeRegressor": "sklearn.tree",
        "ElasticNet": "sklearn.linear_model",
        "ExtraTreesRegressor": "sklearn.ensemble",
        "GradientBoostingRegressor": "sklearn.ensemble",
        "HistGradientBoostingRegressor": "sklearn.ensemble",
        "HuberRegressor": "sklearn.linear_model",
        "KNeighborsRegressor": "sklearn.neighbors",
        "Lasso": "sklearn.linear_model",
        "LinearRegression": "sklearn.linear_model",
        "MLPRegressor": "sklearn.neural_network",
        "RandomForestRegressor": "sklearn.ensemble",
        "Ridge": "sklearn.linear_model",
        "SGDRegressor": "sklearn.linear_model",
        "SVR": "sklearn.svm",
    }
)
ESTIMATORS = MappingProxyType({**CLASSIFIERS, **REGRESSORS})

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
