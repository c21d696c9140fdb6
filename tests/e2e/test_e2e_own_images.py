"""A run of the user's own making: an ETL image writes the data, a program trains, a key signs the version."""

from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.e2e.e2e_manifests import SMALL, build_deployment, build_secret, build_training
from tests.e2e.e2e_space import Space

Object = dict[str, Any]
NAME, KEYS, UNSERVABLE, FORGED = "own", "keys", "weights-only", "forged"
PYTHON = "/opt/venv/bin/python"
ETL = """
import os, numpy as np
draw = np.random.default_rng(0)
x = draw.normal(size=(600, 2))
label = (x[:, 0] + x[:, 1] + draw.normal(scale=0.3, size=600) > 0).astype(int)
with open(os.path.join(os.environ["MODELLOOP_WORK"], "points.csv"), "w") as out:
    out.write("left,right,label\\n")
    out.writelines(f"{a:.6f},{b:.6f},{c}\\n" for (a, b), c in zip(x, label))
"""
TRAIN = """
import json, os, pathlib
import numpy as np, pandas as pd
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

inputs, outputs = (pathlib.Path(os.environ[f"MODELLOOP_{which}"]) for which in ("INPUTS", "OUTPUTS"))
train, test = pd.read_parquet(inputs / "train.parquet"), pd.read_parquet(inputs / "test.parquet")
target = json.loads((inputs / "schema.json").read_text())["target"]
assert target not in test.columns, "the truth must not be seen"
params = json.loads((inputs / "config.json").read_text())["params"]
model = LogisticRegression(**params).fit(train[list(test.columns)].to_numpy(), train[target])
rows = test.to_numpy()
answers = pd.DataFrame({"prediction": model.predict(rows)})
for index, label in enumerate(model.classes_):
    answers[f"probability_{label}"] = model.predict_proba(rows)[:, index]
answers.to_csv(outputs / "predictions.csv", index=False)
(outputs / "model").mkdir(exist_ok=True)
np.save(outputs / "model" / "weights.npy", model.coef_)
if params["C"] != 2:
    onnx = to_onnx(model, rows[:1].astype(np.float64), options={"zipmap": False})
    (outputs / "model.onnx").write_bytes(onnx.SerializeToString())
"""


def key_pair() -> dict[str, str]:
    """A new P-256 key and its public half, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {"private.pem": private.decode(), "public.pem": public.decode()}


def own_training(space: Space, name: str, **spec: Any) -> Object:
    """A training by the program above, on what the ETL wrote, signed."""
    image = space.kube.images["trainer"]
    body = build_training(
        name,
        data={"uri": "work://points.csv", "target": "label"},
        task="Classification",
        prepare={"image": image, "command": [PYTHON, "-c", ETL], "resources": SMALL},
        image=image,
        command=[PYTHON, "-c", TRAIN],
        params={"C": 1.5},
        sign={"secretName": KEYS},
        **spec,
    )
    del body["spec"]["candidates"]
    return body


def prepare(space: Space) -> None:
    space.apply(build_secret(KEYS, key_pair()))
    space.apply(own_training(space, NAME), build_deployment(NAME))
    unservable = own_training(space, UNSERVABLE)
    unservable["spec"]["params"] = {"C": 2}
    space.apply(unservable, build_deployment(UNSERVABLE))


def test_a_model_of_the_users_own_is_judged_signed_verified_and_served(space: Space) -> None:
    space.wait_condition("ModelTraining", NAME)
    status = space.status("ModelTraining", NAME)
    assert status["history"][0]["metrics"]["f1"] > 0.8
    assert status["history"][0]["format"] == "Onnx"
    space.wait_condition("ModelDeployment", NAME)
    rows = [{"left": 2.0, "right": 1.0}, {"left": -2.0, "right": -1.0}]
    answer = httpx.post(f"{space.address(NAME)}/predict", json={"features": rows}, trust_env=False, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == [1, 0]
    (server,) = space.pods("server", NAME)
    mounted = [volume["secret"] for volume in server["spec"]["volumes"] if "secret" in volume]
    assert [item["key"] for secret in mounted for item in secret["items"]] == ["public.pem"]


def test_a_model_that_our_server_cannot_run_is_kept_and_its_deployment_says_so(space: Space) -> None:
    space.wait_condition("ModelTraining", UNSERVABLE)
    assert space.status("ModelTraining", UNSERVABLE)["history"][0]["format"] == "Custom"
    refused = space.wait_condition("ModelDeployment", UNSERVABLE, "Ready", "False", reason="VersionNotServable")
    assert "model.onnx" in refused["message"]


def test_another_key_than_the_one_that_signed_is_refused(space: Space) -> None:
    space.wait_condition("ModelTraining", NAME)
    space.apply(build_secret(FORGED, key_pair()))
    space.apply(build_deployment(FORGED, NAME, verify={"secretName": FORGED}))
    refused = space.wait_condition("ModelDeployment", FORGED, "Ready", "False", reason="SignatureInvalid")
    assert "signature" in refused["message"]


@pytest.mark.parametrize(
    ("program", "container", "words"),
    [
        ("raise SystemExit('the warehouse is closed')", "prepare", "the warehouse is closed"),
        ("import sys; sys.stderr.write('no such table'); sys.exit(2)", "prepare", "no such table"),
    ],
    ids=["fails", "refuses"],
)
def test_a_preparation_that_fails_is_told_in_its_own_words(
    space: Space, program: str, container: str, words: str
) -> None:
    name = f"etl-{len(program)}"
    body = own_training(space, name, retries=0)
    body["spec"]["prepare"]["command"] = [PYTHON, "-c", program]
    space.apply(body)
    failed = space.wait_condition("ModelTraining", name, "RunSucceeded", "False")
    assert container in failed["message"]
    assert words in failed["message"]
