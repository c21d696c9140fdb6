"""What users get wrong, as data: the manifest, what its condition must say, and how it is mended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.e2e_manifests import build_claim, build_deployment, build_monitor, build_training
from tests.e2e.e2e_space import DATA_MOUNT, Space

Object = dict[str, Any]
ABSENT_IMAGE = "localhost/absent:1"
GOOD = "pvc://data/good.csv"

WRITE_DATA = f"""
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.datasets import load_iris
frame = load_iris(as_frame=True).frame
folder = Path({DATA_MOUNT!r})
frame.to_csv(folder / "good.csv", index=False)
frame.iloc[:0].to_csv(folder / "header.csv", index=False)
(folder / "blank.csv").write_text("")
frame.assign(target=1).to_csv(folder / "one-class.csv", index=False)
hollow = frame.copy()
hollow.iloc[:, :-1] = np.nan
hollow.to_csv(folder / "hollow.csv", index=False)
"""


@dataclass(frozen=True)
class Case:
    """One mistake."""

    body: Object
    reason: str
    """Of the condition Ready."""
    words: tuple[str, ...]
    """What its message must hold: the thing, its value, what to do."""
    mend: Callable[[Space], None]
    is_refused: bool = False
    """The data's or the specification's fault: one pod, one run, until it is mended."""
    others: tuple[Object, ...] = field(default=())
    """Further objects that the mistake consists of."""

    @property
    def kind(self) -> str:
        """Of its custom resource."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Of its custom resource."""
        return str(self.body["metadata"]["name"])


def _training(name: str, uri: str = GOOD, target: str = "target", **spec: Any) -> Object:
    return build_training(name, data={"uri": uri, "target": target}, gates=[], **spec)


def _set(kind: str, name: str, **spec: Any) -> Callable[[Space], None]:
    return lambda space: space.patch(kind, name, spec)


def _set_data(name: str, uri: str = GOOD, target: str = "target") -> Callable[[Space], None]:
    return _set("ModelTraining", name, data={"uri": uri, "target": target})


def _fill_file(name: str, file: str) -> Callable[[Space], None]:
    """The file is mended where it is; the operator can't see that, so it is told to try again."""

    def mend(space: Space) -> None:
        space.write(f"{DATA_MOUNT}/{file}", space.read(f"{DATA_MOUNT}/good.csv"))
        space.annotate("ModelTraining", name, "modelloop.dev/run", "mended")

    return mend


BAD_DATA = (
    Case(
        _training("missing-column", target="diagnosis"),
        "ColumnNotFound",
        ("'diagnosis'", GOOD, "columns are", "petal length"),
        _set_data("missing-column"),
        is_refused=True,
    ),
    Case(
        _training("header-only", "pvc://data/header.csv"),
        "EmptyData",
        ("pvc://data/header.csv", "0 rows"),
        _set_data("header-only"),
        is_refused=True,
    ),
    Case(
        _training("blank-file", "pvc://data/blank.csv"),
        "EmptyData",
        ("pvc://data/blank.csv", "expected a header"),
        _fill_file("blank-file", "blank.csv"),
        is_refused=True,
    ),
    Case(
        _training("only-nan", "pvc://data/hollow.csv"),
        "NoUsableColumn",
        ("pvc://data/hollow.csv", "'sepal length (cm)' is empty"),
        _set_data("only-nan"),
        is_refused=True,
    ),
    Case(
        _training("one-class", "pvc://data/one-class.csv"),
        "SingleClass",
        ("'target'", "single class", "150 rows", "at least two"),
        _set_data("one-class"),
        is_refused=True,
    ),
    Case(
        _training("no-file", "pvc://data/god.csv"),
        "DataNotFound",
        ("pvc://data/god.csv", "check the path", "good.csv"),
        _set_data("no-file"),
        is_refused=True,
    ),
    Case(
        _training("bad-parameter", candidates=[{"estimator": "LogisticRegression", "params": {"Cc": 1}}]),
        "BadParameter",
        ("'Cc'", "LogisticRegression", "its parameters are"),
        _set("ModelTraining", "bad-parameter", candidates=[{"estimator": "LogisticRegression", "params": {"C": 1}}]),
        is_refused=True,
    ),
)
BAD_PODS = (
    Case(
        _training("small-trainer", resources={"limits": {"memory": "40Mi"}, "requests": {"cpu": "20m"}}, retries=0),
        "OutOfMemory",
        ("40Mi", "spec.resources.limits.memory"),
        _set("ModelTraining", "small-trainer", resources={"limits": {"memory": "1Gi"}}),
    ),
    Case(
        _training("trainer-image", image=ABSENT_IMAGE),
        "ImagePullFailed",
        (ABSENT_IMAGE, "spec.image"),
        _set("ModelTraining", "trainer-image", image=None),
    ),
    Case(
        _training("data-claim", "pvc://absent/rows.csv"),
        "ClaimNotBound",
        ("'absent'", "not found", "exists in this namespace"),
        _set_data("data-claim"),
    ),
    Case(
        _training("stuck-claim", "pvc://stuck/rows.csv"),
        "ClaimNotBound",
        ("'stuck'", "storage class"),
        _set_data("stuck-claim"),
        others=(build_claim("stuck", storageClassName="absent"),),
    ),
    Case(
        _training("store-claim", storage={"uri": "pvc://own-store"}),
        "ClaimNotBound",
        ("'own-store'", "exists in this namespace"),
        lambda space: space.apply(build_claim("own-store")),
    ),
    Case(
        _training("secret", storage={"uri": "s3://models/a", "secretRef": {"name": "absent-keys"}}),
        "ContainerConfigError",
        ("'absent-keys'", "create it in this namespace"),
        _set("ModelTraining", "secret", storage={"uri": "pvc://modelloop-store", "secretRef": None}),
    ),
    Case(
        build_deployment("server-image", "good", image=ABSENT_IMAGE),
        "ImagePullFailed",
        (ABSENT_IMAGE, "spec.image", "version 1"),
        _set("ModelDeployment", "server-image", image=None),
    ),
    Case(
        build_deployment("small-server", "good", resources={"limits": {"memory": "24Mi"}, "requests": {"cpu": "20m"}}),
        "OutOfMemory",
        ("24Mi", "spec.resources.limits.memory"),
        _set("ModelDeployment", "small-server", resources={"limits": {"memory": "512Mi"}}),
    ),
)
BAD_REFERENCES = (
    Case(
        build_deployment("lost-deployment", "absent"),
        "TrainingNotFound",
        ("'absent'", "spec.trainingRef.name", "create it or correct the name"),
        _set("ModelDeployment", "lost-deployment", trainingRef={"name": "good"}),
    ),
    Case(
        build_monitor("lost-monitor", "absent"),
        "DeploymentNotFound",
        ("'absent'", "spec.deploymentRef.name", "create it or correct the name"),
        _set("ModelMonitor", "lost-monitor", deploymentRef={"name": "good"}),
    ),
)
# Those whose pods really work are few at a time: two cores give no more within the promised time.
WAVES = ((*BAD_PODS, *BAD_REFERENCES), *(BAD_DATA[first : first + 2] for first in range(0, len(BAD_DATA), 2)))
CASES = tuple(case for wave in WAVES for case in wave)
