"""Forks operators from a process that has imported everything: a start costs milliseconds instead of a second.

The operator that runs is the real one, `modelloop.__main__.main()` in a process of its own that signals end for real.
`overrides` replaces module constants such as waiting times, which would only make tests slow.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from threading import Lock

from kubernetes.aio.config import kube_config

from modelloop.__main__ import main


class Zygote:
    """The test's side: asks for operators over a pipe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.cluster_zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )

    def fork(self, environ: dict[str, str], log: Path, overrides: dict[str, float]) -> int:
        """Start an operator with this environment and nothing else; returns its pid. Constants are in seconds."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with self._lock:
            stdin.write(json.dumps({"environ": environ, "log": str(log), "overrides": overrides}) + "\n")
            stdin.flush()
            return int(stdout.readline())

    def close(self) -> None:
        """End the zygote; operators that run go on."""
        self._process.communicate()


def override(constants: dict[str, float]) -> None:
    """Set `package.module.CONSTANT` to as many seconds, in the type that it has, wherever it was imported to."""
    for path, seconds in constants.items():
        module_name, _, name = path.rpartition(".")
        old = getattr(importlib.import_module(module_name), name)
        new = timedelta(seconds=seconds) if isinstance(old, timedelta) else type(old)(seconds)
        for module in [module for key, module in sys.modules.items() if key.startswith("modelloop.")]:
            if getattr(module, name, None) is old:
                setattr(module, name, new)


def _become_operator(order: dict[str, dict[str, str]], log: str) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.environ.clear()
    os.environ.update(order["environ"])
    # The one thing that a module has read from the environment while the zygote imported it.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = os.environ["KUBECONFIG"]
    override({path: float(seconds) for path, seconds in order["overrides"].items()})
    main()


def serve() -> None:
    """The zygote's side: one order per line in, one pid per line out."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the operators: they leave no zombies
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _become_operator(order, order["log"])
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else 1
                if isinstance(exc.code, str):
                    print(exc.code, file=sys.stderr)
            except BaseException:  # noqa: BLE001 - a forked child must never return into the zygote
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
