"""Columns that mustn't be written aren't, and readers know which those are."""

import gzip
import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.config import CaptureConfig
from modelkit.errors import RefusedError
from modelkit.serve.batch import Batch, Features
from modelkit.serve.capture import CapturedRequest, RowFormat
from modelkit.serve.model import Answer
from modelkit.serve.redaction import Redaction, read_redaction
from modelkit.store.captures import CapturedRows, read_captured
from tests.unit.serve.conftest import Serve, Served
from tests.unit.serve.serve_models import cancer, people

KEY = b"0123456789abcdef"
FEATURES = Features.of(people().signature)


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(KEY + b"\n")
    return str(path)


def read(served: Served) -> CapturedRows:
    now = datetime.now(UTC)
    minutes = timedelta(minutes=5)
    return read_captured(served.store, "team", served.example.signature.model, now - minutes, now + minutes)


def text_of(served: Served, root: Path) -> bytes:
    served.version.close()
    return b"".join(gzip.decompress(path.read_bytes()) for path in root.rglob("requests/*/*.jsonl.gz"))


async def test_a_dropped_column_is_nowhere_in_the_store(serve: Serve, tmp_path: Path) -> None:
    served = serve(people(), capture=CaptureConfig(drop=("city", "age")))
    await served.predict([{"age": 33.125, "city": "Reykjavik", "vip": True, "visits": 3}])
    written = text_of(served, tmp_path)
    assert b"Reykjavik" not in written
    assert b"33.125" not in written
    rows = read(served)
    assert rows.features.to_pylist() == [{"vip": True, "visits": 3}]
    assert rows.meta["redacted"].to_pylist() == [["age", "city"]]
    assert rows.redacted == {"age", "city"}


async def test_a_dropped_column_of_a_plain_matrix_is_left_out_alone(serve: Serve) -> None:
    served = serve(cancer(), capture=CaptureConfig(drop=("f3",)))
    await served.predict(cancer().values(2))
    served.version.close()
    expected = [{name: value for name, value in row.items() if name != "f3"} for row in cancer().records(2)]
    assert read(served).features.to_pylist() == expected


async def test_a_hashed_column_holds_the_keyed_hash_that_openssl_gives(serve: Serve, key: str) -> None:
    served = serve(people(), capture=CaptureConfig(hash=("city", "visits"), key_path=key))
    row = {"age": 30.5, "vip": False}
    await served.predict([row | {"city": "Oslo", "visits": 3}, row | {"city": None, "visits": 3}])
    served.version.close()
    oslo, three = (hmac.new(KEY, text, hashlib.sha256).hexdigest()[:16] for text in (b"Oslo", b"3"))
    assert read(served).features.to_pylist() == [
        row | {"city": oslo, "visits": three},
        row | {"city": None, "visits": three},
    ]


async def test_without_redaction_rows_say_nothing_of_it(serve: Serve, tmp_path: Path) -> None:
    served = serve(people())
    await served.predict(people().values(3))
    assert b"redacted" not in text_of(served, tmp_path)
    assert read(served).redacted == set()


async def test_feedback_is_joined_with_redacted_rows(serve: Serve, key: str) -> None:
    served = serve(people(), capture=CaptureConfig(drop=("age",), hash=("city",), key_path=key))
    answer = (await served.predict(people().values(1))).json()
    await served.client.post("/feedback", json={"id": answer["id"], "label": "yes"})
    served.version.close()
    assert read(served).meta["label"].to_pylist() == ["yes"]


@given(st.text(), st.integers(-(2**53), 2**53))
def test_equal_values_have_equal_hashes_and_none_shows_the_value(text: str, number: int) -> None:
    redaction, other = (Redaction(hashed=frozenset({"a"}), key=key) for key in (KEY, b"other"))
    for value in (text, number):
        found = redaction.hash(value)
        assert found == redaction.hash(value) != other.hash(value)
        assert len(found) == 16
        assert int(found, 16) >= 0


@pytest.mark.parametrize(
    ("config", "reason", "message"),
    [
        (CaptureConfig(drop=("citty",)), "UnknownCaptureColumn", "'citty'.*takes 'age', 'city', 'vip', 'visits'"),
        (CaptureConfig(hash=("town",)), "UnknownCaptureColumn", "capture.hash names the column 'town'"),
        (CaptureConfig(hash=("age",)), "CaptureColumnNotHashable", "'age' of type float64"),
        (CaptureConfig(hash=("vip",)), "CaptureColumnNotHashable", "'vip' of type bool"),
        (CaptureConfig(hash=("city",)), "CaptureKeyMissing", "no file"),
        (CaptureConfig(hash=("city",), key_path="/nowhere/key"), "CaptureKeyMissing", "/nowhere/key.*No such file"),
        (
            CaptureConfig(hash=("city",), key_path="/dev/null"),
            "CaptureKeyMissing",
            "/dev/null of capture.hash is empty",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_redaction_that_can_not_be_kept_is_refused(config: CaptureConfig, reason: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as raised:
        read_redaction(config, FEATURES)
    assert raised.value.reason == reason


def test_the_server_refuses_to_start_without_its_key(serve: Serve) -> None:
    with pytest.raises(RefusedError, match="/nowhere/key"):
        serve(people(), capture=CaptureConfig(hash=("city",), key_path="/nowhere/key"))


def test_a_column_that_is_dropped_and_hashed_is_dropped(key: str) -> None:
    redaction = read_redaction(CaptureConfig(drop=("city",), hash=("city",), key_path=key), FEATURES)
    assert (redaction.dropped, redaction.hashed) == ({"city"}, set())


def test_the_key_is_in_no_text_of_the_rule(key: str, caplog: pytest.LogCaptureFixture) -> None:
    redaction = read_redaction(CaptureConfig(hash=("city",), key_path=key), FEATURES)
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r", redaction, redaction)
    assert KEY.decode() not in caplog.text + repr(redaction)


def test_the_lines_are_what_they_were_without_redaction() -> None:
    """Every field in its place: readers of other releases know them."""
    batch = Batch(1, None, tuple(np.array([value], dtype=object) for value in (30.5, "Oslo", 1.0, 4)))
    moment = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    answer = Answer(["yes"], np.array([[0.25, 0.75]], dtype=np.float32))
    captured = CapturedRequest(RowFormat("sha256:0", 3, FEATURES), "a", moment, batch, answer)
    assert [json.loads(line) for line in captured.lines()] == [
        {
            "id": "a",
            "row": 0,
            "time": "2026-03-01T12:00:00.250000Z",
            "digest": "sha256:0",
            "version": 3,
            "features": {"age": 30.5, "city": "Oslo", "vip": True, "visits": 4},
            "prediction": "yes",
            "probabilities": [0.25, 0.75],
        }
    ]
