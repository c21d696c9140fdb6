"""Applications for loans, to train on and as requests: categories, gaps, groups, a column that nobody may keep."""

import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np

from tests.e2e.e2e_traffic import new_client

Row = dict[str, Any]
COLUMNS = ("age", "income", "debt", "sex", "region", "postcode")
MARK = "9999-zebra"
"""Postcode of every request."""


def draw_loans(rows: int, seed: int, *, is_changed: bool = False, postcode: str = MARK) -> list[tuple[Row, str]]:
    """Applications, and whether they were paid back.

    Changed: incomes are told in another unit, the region is often not known any more, and who pays back has turned.
    """
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 80, rows)
    income = np.round(draw.lognormal(1.2, 0.4, rows), 3)
    debt = np.round(draw.lognormal(0.3, 0.6, rows), 3)
    sex = draw.choice(["f", "m"], rows)
    region = draw.choice(["north", "south", "west"], rows, p=[0.5, 0.3, 0.2])
    risk = 2.5 * np.log(debt / income) + 0.02 * (50 - age) + 1.6 + 0.5 * (region == "west")
    is_paid = draw.random(rows) < 1 / (1 + np.exp(2 * risk))
    pairs = []
    for index in range(rows):
        row: Row = {
            "age": int(age[index]),
            "income": float(income[index]),
            "debt": float(debt[index]),
            "sex": str(sex[index]),
            "region": str(region[index]),
            "postcode": postcode or f"{index % 12:02d}-town",
        }
        paid = bool(is_paid[index])
        if is_changed:
            row["income"] = round(row["income"] * 1.9, 3)
            row["region"] = "unknown" if draw.random() < 0.3 else row["region"]
            paid = not paid if sex[index] == "f" else paid
        pairs.append((row, "yes" if paid else "no"))
    return pairs


def write_loans(pairs: Iterable[tuple[Row, str]]) -> bytes:
    """As a CSV file with the column `paid`."""
    lines = [",".join((*COLUMNS, "paid"))]
    for row, label in pairs:
        lines.append(",".join([*("" if row[name] is None else str(row[name]) for name in COLUMNS), label]))
    return ("\n".join(lines) + "\n").encode()


def send_loans(address: str, pairs: Iterable[tuple[Row, str]]) -> None:
    """One request per application, and its label as feedback."""
    with new_client(address) as client:
        for row, label in pairs:
            request_id = uuid.uuid4().hex
            answer = client.post("/predict", json={"features": [row]}, headers={"X-Request-Id": request_id})
            assert answer.is_success, answer.text
            client.post("/feedback", json={"id": request_id, "label": label}).raise_for_status()
