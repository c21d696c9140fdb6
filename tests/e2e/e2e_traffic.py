"""Requests: the clinic's patients with what turned out, and constant load that counts every failure."""

import http.client
import itertools
import json
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd
from sklearn.datasets import load_breast_cancer

OVER_MEASURED = ("radius", "perimeter", "area")
FACTOR = 1.5
Row = dict[str, float]


def read_patients(start: int, stop: int, *, drifted: bool = False) -> list[tuple[Row, int]]:
    """Patients of the breast-cancer data set, shuffled, and what turned out.

    Shuffled, because the data set's own order has more of one class at its beginning, which would be a drift of its
    own. Drifted: as a scanner that over-measures sees them.
    """
    shuffled: pd.DataFrame = load_breast_cancer(as_frame=True).frame.sample(frac=1.0, random_state=0)
    frame = shuffled.iloc[start:stop].copy()
    labels = frame.pop("target").tolist()
    if drifted:
        columns = [name for name in map(str, frame.columns) if any(word in name for word in OVER_MEASURED)]
        frame[columns] *= FACTOR
    rows = [{str(name): float(value) for name, value in row.items()} for row in frame.to_dict("records")]
    return list(zip(rows, labels, strict=True))


def new_client(address: str) -> httpx.Client:
    """A client that is used for one server and knows no proxy."""
    return httpx.Client(base_url=address, timeout=10.0, trust_env=False)


def send_patients(address: str, patients: Iterable[tuple[Row, int]]) -> list[dict[str, Any]]:
    """One request per patient and what turned out as feedback; the answers."""
    answers = []
    with new_client(address) as client:
        for row, label in patients:
            request_id = uuid.uuid4().hex
            answer = client.post("/predict", json={"features": [row]}, headers={"X-Request-Id": request_id})
            answer.raise_for_status()
            answers.append(answer.json())
            client.post("/feedback", json={"id": request_id, "label": label}).raise_for_status()
    return answers


@dataclass(slots=True)
class Tally:
    """What the load got."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)


class Load:
    """Asks without pause over several connections, half of them kept open, half of them new for every request.

    Nothing is tried again: whatever isn't a right answer counts as a failure.
    """

    def __init__(self, address: str, rows: Sequence[Row], connections: int = 4, pause: float = 0.04) -> None:
        target = urlsplit(address)
        self._host, self._port = target.hostname or "", target.port or 80
        self._bodies = [json.dumps({"features": [row]}) for row in rows]
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._threads = [
            threading.Thread(target=self._run, args=(number % 2 == 0,), daemon=True) for number in range(connections)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def tally(self) -> Tally:
        """A copy of what was counted so far."""
        with self._lock:
            return Tally(self._tally.requests, list(self._tally.failures), set(self._tally.versions))

    def require_no_failure(self) -> None:
        """AssertionError that shows the first failures."""
        tally = self.tally
        assert tally.requests > 0, "the load sent nothing"
        assert not tally.failures, f"{len(tally.failures)} of {tally.requests} requests failed: {tally.failures[:5]}"

    def _run(self, keep_alive: bool) -> None:
        connection = self._connect()
        for body in itertools.cycle(self._bodies):
            if self._stop.is_set():
                break
            failure, version = self._ask(connection, body)
            with self._lock:
                self._tally.requests += 1
                if failure:
                    self._tally.failures.append(failure)
                else:
                    self._tally.versions.add(version)
            if failure or not keep_alive:
                connection.close()
                connection = self._connect()
            self._stop.wait(self._pause)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=10.0)

    @staticmethod
    def _ask(connection: http.client.HTTPConnection, body: str) -> tuple[str, str]:
        """A failure in words, or the version that answered."""
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                return f"{answer.status}: {text[:200]!r}", ""
            plain = json.loads(text)
            if len(plain["predictions"]) != 1:
                return "an answer without a prediction", ""
            return "", str(plain["version"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
            return f"{type(exc).__name__}: {exc}", ""
