"""Every manifest in the README and the docs is one that the API server accepts, as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
FENCE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


SIMPLEST: dict[str, Any] = {
    "apiVersion": "modelloop.dev/v1alpha1",
    "kind": "ModelTraining",
    "metadata": {"name": "example"},
    "spec": {"data": {"uri": "builtin://iris", "target": "target"}, "candidates": [{"estimator": "SVC"}]},
}


def documents() -> Iterator[tuple[Path, Any]]:
    """The YAML documents of the Markdown files."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            for document in yaml.safe_load_all(block):
                yield path, document


def examples() -> list[Any]:
    """Custom resources, and parts of a ModelTraining's spec on the pages about its parts."""
    found = []
    for number, (path, document) in enumerate(documents()):
        if "kind" in document:
            found.append(pytest.param(document, id=f"{path.name}-{number}-{document['kind']}"))
        elif path.parent.name == "training":
            spec = SIMPLEST["spec"] | document.get("spec", document)
            if "command" in spec:
                del spec["candidates"]
            found.append(pytest.param(SIMPLEST | {"spec": spec}, id=f"{path.name}-{number}"))
    return found


def test_each_kind_has_an_example_in_the_readme_and_in_its_own_page() -> None:
    for kind, page in (
        ("ModelTraining", "training.md"),
        ("ModelDeployment", "deployment.md"),
        ("ModelMonitor", "monitoring.md"),
    ):
        pages = {path.name for path, document in documents() if document.get("kind") == kind}
        assert {"README.md", page} <= pages


@pytest.mark.parametrize("example", examples())
def test_the_api_server_accepts_the_example(cluster: Cluster, example: dict[str, Any]) -> None:
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-")
    assert "created" in cluster.kubectl(*arguments, stdin=yaml.safe_dump(example))


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
            page = path if not target else path.parent / target
            if not page.exists():
                broken.append(f"{path.name}: {target}")
            elif anchor and anchor.removeprefix("#") not in _anchors(page):
                broken.append(f"{path.name}: {target}{anchor}")
    assert not broken


def _anchors(page: Path) -> set[str]:
    """Of the headings, as the usual renderers of Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
