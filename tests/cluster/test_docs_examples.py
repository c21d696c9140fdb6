"""Every manifest in the README and the docs is one that the API server accepts, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def examples() -> list[Any]:
    """The custom resources in the Markdown files."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            for document in yaml.safe_load_all(block):
                if "kind" in document:
                    found.append(pytest.param(document, id=f"{path.name}-{document['kind']}"))
    return found


def test_each_kind_has_an_example_in_the_readme_and_in_its_own_page() -> None:
    kinds = [example.values[0]["kind"] for example in examples()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "ModelTraining": 2,
        "ModelDeployment": 2,
        "ModelMonitor": 2,
    }


@pytest.mark.parametrize("example", examples())
def test_the_api_server_accepts_the_example(cluster: Cluster, example: dict[str, Any]) -> None:
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-")
    assert "created" in cluster.kubectl(*arguments, stdin=yaml.safe_dump(example))
