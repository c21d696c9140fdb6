"""What one would write without modelloop: the same data, folds, model and metric, with scikit-learn alone.

`python bench/training_script.py <settings as JSON>`; it imports nothing of ours.
"""

import json
import sys
from pathlib import Path

import joblib
import pandas as pd
import sklearn
from sklearn import ensemble, linear_model
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import f1_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def main(path: str, estimator: str, params: dict, scaled: bool, folds: int, seed: int, cores: int, output: str) -> None:
    """Read, split, cross-validate, fit, predict, measure and dump."""
    model = getattr(ensemble if hasattr(ensemble, estimator) else linear_model, estimator)(**params)
    if "random_state" in model.get_params():
        model.set_params(random_state=seed)
    frame = pd.read_csv(path)
    target = frame.pop("target")
    classes = sklearn.base.is_classifier(model)
    learn, test, learn_target, test_target = train_test_split(
        frame, target, test_size=0.2, random_state=seed, stratify=target if classes else None
    )
    texts = [name for name in frame if frame[name].dtype.kind not in "fiub"]
    numbers = [name for name in frame if name not in texts]
    number_steps = [SimpleImputer(strategy="median"), *([StandardScaler()] if scaled else [])]
    text_steps = [SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)]
    columns = ColumnTransformer(
        [("numbers", make_pipeline(*number_steps), numbers), ("texts", make_pipeline(*text_steps), texts)]
    )
    pipeline = make_pipeline(columns, model)
    splitter = (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=seed)
    scoring = "f1_macro" if classes else "neg_root_mean_squared_error"
    with joblib.parallel_config(backend="threading"):
        scores = cross_val_score(pipeline, learn, learn_target, cv=splitter, scoring=scoring, n_jobs=cores)
    predictions = pipeline.fit(learn, learn_target).predict(test)
    if classes:
        score = f1_score(test_target, predictions, average="macro")
    else:
        score = root_mean_squared_error(test_target, predictions)
    joblib.dump(pipeline, Path(output) / "model.joblib")
    print(json.dumps({"folds": scores.tolist(), "test": float(score)}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
