"""A table of customers as companies have them: categories, dates, words, gaps, households; its truth is known."""

WRITE_CUSTOMERS = """
import sys
import numpy as np

path, rows, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = np.random.default_rng(seed)
age = draw.integers(18, 90, rows)
income = np.round(draw.lognormal(10.3, 0.5, rows), 2)
country = draw.choice(["NL", "BE", "DE", "FR"], rows, p=[0.4, 0.3, 0.2, 0.1])
days = draw.integers(0, 1500, rows)
angry = draw.random(rows) < 0.3
risk = 0.05 * (age - 50) + 1.5 * (country == "DE") + 2.0 * angry - 0.4 * (np.log(income) - 10.3) - 1.0
churned = (draw.random(rows) < 1 / (1 + np.exp(-1.5 * risk))).astype(int)
date = np.datetime64("2022-01-01") + days
bad = ["broken again and nobody answers", "slow answers and a wrong invoice", "I want my money back"]
good = ["works as it should every day", "friendly people at the desk", "nothing to complain about"]
lines = ["age,income,country,signup,comment,household,churned"]
for index in range(rows):
    comment = (bad if angry[index] else good)[int(draw.integers(3))] + " note " + str(index % 97)
    shown = "" if draw.random() < 0.05 else f"{income[index]:.2f}"
    lines.append(f"{age[index]},{shown},{country[index]},{date[index]},{comment},{index // 2},{churned[index]}")
open(path, "w").write("\\n".join(lines) + "\\n")
"""
"""Program of the pod of tools: path, number of rows, seed."""
WRITE_LARGE = """
import sys
import numpy as np, pandas as pd

values = np.random.default_rng(0).normal(size=(1_000_000, 40))
frame = pd.DataFrame(values, columns=[f"x{index}" for index in range(40)])
frame.assign(target=(values[:, 0] > 0).astype(int)).to_parquet(sys.argv[1])
"""
"""Program of the pod of tools: some 320 MB of numbers at the path."""
SENIORS = {"name": "seniors", "column": "age", "min": 60}
ROW = {
    "age": 71,
    "income": None,
    "country": "DE",
    "signup": "2023-05-17",
    "comment": "broken again and nobody answers",
}
