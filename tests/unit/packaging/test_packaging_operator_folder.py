"""The folder `operator` shares its name with a module of the standard library: see section 9 of the design.

A regular module beats a folder without `__init__.py`, so the folder is harmless exactly as long as no Python file lies
directly in it.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_no_python_file_lies_directly_in_the_folder() -> None:
    assert list((ROOT / "operator").glob("*.py")) == []


def test_no_package_is_named_operator() -> None:
    parts = (ROOT / "operator", ROOT / "images", ROOT / "tests")
    assert [path for part in parts for path in part.rglob("operator/__init__.py")] == []


def test_python_in_the_root_of_the_repository_finds_the_standard_module() -> None:
    code = "import operator; print(operator.add(1, 2), operator.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    total, path = done.stdout.split(maxsplit=1)
    assert total == "3"
    assert not Path(path.strip()).is_relative_to(ROOT / "operator")
