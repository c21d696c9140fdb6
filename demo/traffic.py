"""Plays the clinic: patients' rows as requests, what turned out as feedback, and a scanner that over-measures.

The training learns from rows 0 to 299 of the breast-cancer data set; the traffic is made of the other patients, each
of whom is asked about once, so that no answer was learned by heart.
"""

import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import f1_score

BASELINE = slice(300, 420)
DRIFTED = slice(420, 539)
FINAL = slice(539, 569)
OVER_MEASURED = ("radius", "perimeter", "area")
"""The scanner's features that grow."""
FACTOR = 1.3


@dataclass(slots=True)
class Tally:
    """What came back: answers with their truth, and requests that failed."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    truths: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)

    @property
    def f1(self) -> float:
        """Of the answers against what turned out."""
        return float(f1_score(self.truths, self.answers))


class Clinic:
    """A client of the served model."""

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(base_url=address, timeout=10.0)
        data = load_breast_cancer(as_frame=True)
        self._rows = data.data
        self._labels = data.target

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def rows(self, part: slice, *, drifted: bool) -> Iterator[tuple[dict[str, float], int]]:
        """Patients of a part of the data set, as this scanner measures them, and what turned out."""
        rows = self._rows.iloc[part].copy()
        if drifted:
            columns = [name for name in rows if any(word in name for word in OVER_MEASURED)]
            rows[columns] *= FACTOR
        yield from zip(rows.to_dict("records"), self._labels.iloc[part].tolist(), strict=True)

    def ask(self, row: dict[str, float], label: int, tally: Tally) -> None:
        """Ask for one patient and tell the truth afterwards, as the clinic learns it."""
        tally.requests += 1
        request_id = uuid.uuid4().hex
        try:
            answer = self._post("/predict", {"features": [row]}, request_id)
            self._post("/feedback", {"id": request_id, "label": label}, None)
        except httpx.HTTPError as exc:
            tally.failures.append(f"{type(exc).__name__}: {exc}")
            return
        tally.truths.append(label)
        tally.answers.append(int(answer["predictions"][0]))
        tally.versions.add(str(answer["version"]))

    def ask_all(self, pairs: Sequence[tuple[dict[str, float], int]], seconds: float, tally: Tally) -> Iterator[int]:
        """Ask for all of `pairs`, spread over `seconds`; yields how many were asked."""
        started = time.monotonic()
        for count, (row, label) in enumerate(pairs, start=1):
            self.ask(row, label, tally)
            yield count
            due = started + seconds * count / len(pairs)
            time.sleep(max(due - time.monotonic(), 0.0))

    def _post(self, path: str, body: Any, request_id: str | None) -> Any:
        headers = {"X-Request-Id": request_id} if request_id else {}
        response = self._client.post(path, json=body, headers=headers)
        response.raise_for_status()
        return response.json()


class Probe:
    """Asks without pause in the background, to see whether a rollout costs anybody an answer.

    It sends what the scanner measures by now, without feedback, so that it teaches nothing.
    """

    def __init__(self, address: str, rows: Sequence[dict[str, float]]) -> None:
        self._address = address
        self._rows = rows
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.tally = Tally()

    def __enter__(self) -> "Probe":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # A new connection each time, as from many clients: an old one would stick to its pod.
        for row in itertools.cycle(self._rows):
            if self._stop.is_set():
                return
            self.tally.requests += 1
            try:
                response = httpx.post(f"{self._address}/predict", json={"features": [row]}, timeout=10.0)
                response.raise_for_status()
                self.tally.versions.add(str(response.json()["version"]))
            except httpx.HTTPError as exc:
                self.tally.failures.append(f"{type(exc).__name__}: {exc}")
            self._stop.wait(0.05)
