"""Python environments beside the project's own, for programs whose dependencies don't go together with ours."""

import shutil
import sys
from pathlib import Path

from devcluster.shell import run


def locked_python(lock: Path, folder: Path) -> Path:
    """The interpreter of the environment in `folder`, which has exactly the hash-checked `lock`; made when needed.

    Raises DevClusterError when it can't be installed.
    """
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        print(f"installing {lock.name} into {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        # The lock names everything; older pips would take `pandas[parquet]` for another package than pandas.
        run(python, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "-r", lock)
        stamp.write_text(lock.read_text())
    return python
