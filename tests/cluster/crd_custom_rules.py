"""What users bring themselves to a training, judged together with the fields that it depends on."""

from typing import Any

from tests.cluster.cluster_api import Object
from tests.cluster.cluster_loop import deployment, training
from tests.cluster.crd_cases import CUSTOM, NAMESPACE, with_value

SPEC = "ModelTraining.spec"
ETL = {"image": "example/etl:1"}
IMAGE = "must be an image such as registry.example.com/team/server:1.2"
QUANTITY = "must be a quantity such as 500m, 2 or 1Gi"
DNS_NAME = "must be a name of lower-case letters, digits and dashes such as my-model"


def custom(**fields: Any) -> Object:
    """A good custom training with other fields; None takes one away."""
    body = training(NAMESPACE)
    for name, value in (CUSTOM | fields).items():
        body = with_value(body, name, value)
        if value is None:
            del body["spec"][name]
    return body


def plain(**fields: Any) -> Object:
    """A good training with other fields."""
    body = training(NAMESPACE)
    for name, value in fields.items():
        body = with_value(body, name.replace("__", "."), value)
    return body


REJECTED: list[tuple[Object, str, str]] = [
    (plain(candidates=[]), SPEC, "candidates must name an estimator at least, or command must train the model"),
    (custom(candidates=[{"estimator": "LogisticRegression"}]), SPEC, "candidates must not be set with command"),
    (custom(image=None), SPEC, "image must be set with command"),
    (custom(task=None), SPEC, "task must be set with command"),
    (plain(args=["--fast"]), SPEC, "args must be used with command"),
    (
        custom(featureSelection={"method": "Variance"}),
        SPEC,
        "compress, featureSelection and tuning.parallelism must not be set with command",
    ),
    (plain(data__uri="work://rows.csv"), SPEC, "prepare must be set with a work:// uri"),
    (
        plain(data__uri="pvc://rows/a.csv", prepare=ETL | {"claimRef": {"name": "other"}}),
        SPEC,
        "prepare.claimRef must not be set with a pvc:// uri, whose claim prepare sees anyway",
    ),
    (
        plain(prepare=ETL | {"env": [{"name": "A-B"}]}),
        f"{SPEC}.prepare.env[0].name",
        "must be a variable's name such as BATCH_SIZE",
    ),
    *(
        (plain(prepare=ETL | {name: {"name": "My Key"}}), f"{SPEC}.prepare.{name}.name", DNS_NAME)
        for name in ("secretRef", "claimRef")
    ),
    (plain(prepare={"image": "my image"}), f"{SPEC}.prepare.image", IMAGE),
    *(
        (
            plain(prepare=ETL | {"resources": {part: {"memory": "2 GB"}}}),
            f"{SPEC}.prepare.resources.{part}[memory]",
            QUANTITY,
        )
        for part in ("limits", "requests")
    ),
    (plain(sign={"secretName": "My Key"}), f"{SPEC}.sign.secretName", DNS_NAME),
    (
        with_value(deployment(NAMESPACE), "verify", {"secretName": "My Key"}),
        "ModelDeployment.spec.verify.secretName",
        DNS_NAME,
    ),
]
ACCEPTED: list[Object] = [
    custom(),
    custom(args=["--epochs", "3"], params={"layers": [64, 32], "rate": 0.1}),
    plain(
        data__uri="work://features.parquet", prepare=ETL | {"claimRef": {"name": "raw"}, "secretRef": {"name": "keys"}}
    ),
    plain(
        prepare=ETL | {"command": ["sh", "-c", "run"], "env": [{"name": "BATCH_SIZE", "value": "3"}, {"name": "_x"}]}
    ),
    plain(sign={"secretName": "keys"}),
    with_value(deployment(NAMESPACE), "verify", {"secretName": "keys"}),
]
