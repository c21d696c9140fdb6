"""The files by which the trainer and a custom training image talk, in one place for both sides and the documentation.

The trainer writes `inputs` before the custom image runs; the image writes `outputs`; the trainer reads them after it.
"""

PREPARE = "prepare"
STAGE = "stage"
CUSTOM = "custom"
"""Names of the init containers of a run, in the order in which they run: the user's ETL, the trainer's first step, the
user's training. The trainer's last step is the main container."""

INPUTS_VARIABLE = "MODELLOOP_INPUTS"
OUTPUTS_VARIABLE = "MODELLOOP_OUTPUTS"
"""Environment variables of the custom container: the two folders."""
WORK_VARIABLE = "MODELLOOP_WORK"
"""Environment variable of the prepare container: the folder that `work://` addresses begin at."""
NAME_VARIABLE = "MODELLOOP_NAME"
NAMESPACE_VARIABLE = "MODELLOOP_NAMESPACE"
RUN_VARIABLE = "MODELLOOP_RUN"
"""Of both: which run of which ModelTraining it is."""

TRAIN = "train.parquet"
"""Features, the target and, where the data has one, the column of weights."""
VALIDATION = "validation.parquet"
"""As train.parquet; where the run keeps a validation part."""
TEST = "test.parquet"
"""Features only: the image never sees the truth that it is judged by."""
SCHEMA = "schema.json"
CONFIG = "config.json"

MODEL_FOLDER = "model"
"""Below `outputs`: every file of the model, as it is stored with the version."""
PREDICTIONS = ("predictions.parquet", "predictions.csv")
"""One of them: an answer to every row of test.parquet, in its order."""
PREDICTION = "prediction"
"""Column of the answers: class labels or numbers."""
PROBABILITY_PREFIX = "probability_"
"""Columns of the classes' probabilities, for all classes or none: `probability_<class>`."""
REPORTED_METRICS = "metrics.json"
"""Numbers that the image wants to show in the model card; they judge nothing."""

MOST_MODEL_FILES = 1000
MOST_MODEL_BYTES = 4 * 1024**3
"""Of all model files together."""
