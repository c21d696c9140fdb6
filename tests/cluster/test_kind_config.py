"""kind-config.yaml, read by kind's own strict loader."""

import subprocess
from pathlib import Path

import pytest

from devcluster.toolset import binary

CONFIG = Path(__file__).resolve().parents[2] / "kind-config.yaml"


def read_with_kind(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(binary("kindcheck")), str(path)], capture_output=True, text=True, check=False)


def test_kind_accepts_the_configuration() -> None:
    answer = read_with_kind(CONFIG)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"kind accepts {CONFIG}\n"


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        pytest.param(
            "extraPortMappings:", "extraPortMapping:", "field extraPortMapping not found", id="misspelt field"
        ),
        pytest.param("v1alpha4", "v1alpha9", "unknown apiVersion", id="unknown version"),
        pytest.param(
            "role: control-plane", "role: worker", "must have at least one control-plane node", id="no control plane"
        ),
        pytest.param("hostPort: 30080", "hostPort: 300800", "invalid port number: 300800", id="impossible port"),
    ],
)
def test_kind_refuses(tmp_path: Path, right: str, wrong: str, complaint: str) -> None:
    text = CONFIG.read_text()
    assert right in text
    broken = tmp_path / "kind-config.yaml"
    broken.write_text(text.replace(right, wrong))

    answer = read_with_kind(broken)

    assert answer.returncode == 1
    assert complaint in answer.stderr
