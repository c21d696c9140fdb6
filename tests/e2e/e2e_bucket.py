"""A real S3 server, Versity's gateway over a folder, at an address that pods reach."""

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from devcluster.toolset import binary
from tests.cluster.cluster_api import wait_for

ACCESS_KEY, SECRET_KEY = "e2e-access-key", "e2e-secret-key-4b1d"
REGION = "us-east-1"


class BucketServer:
    """Runs until `stop`. Buckets are folders, so that tests look at them directly."""

    def __init__(self, address: str, buckets: tuple[str, ...]) -> None:
        with socket.socket() as probe:
            probe.bind((address, 0))
            self._at = (address, probe.getsockname()[1])
        self.root = Path(tempfile.mkdtemp(prefix="e2e-bucket-"))
        for bucket in buckets:
            (self.root / bucket).mkdir()
        self._log = (self.root.parent / f"{self.root.name}.log").open("wb")
        command: list[str | Path] = [
            # Ends with the tests, however those end.
            "setpriv", "--pdeathsig", "TERM",
            binary("versitygw"), "--port", "{}:{}".format(*self._at), "--access", ACCESS_KEY, "--secret", SECRET_KEY,
            "--region", REGION, "--quiet", "posix", str(self.root),
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        wait_for(self._answers, 20.0, what="the S3 server")

    @property
    def endpoint(self) -> str:
        """As in AWS_ENDPOINT_URL."""
        return "http://{}:{}".format(*self._at)

    def secret(self, secret_key: str = SECRET_KEY) -> dict[str, str]:
        """What a Secret for it holds."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def stop(self) -> None:
        """End it and remove its folder."""
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)
        shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(self._at) == 0
