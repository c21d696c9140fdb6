"""stub"""

from __future__ import annotations
from collections.abc import Sequence
from pathlib import Path
from devcluster.layout import Layout


def load_images(layout: Layout, references: Sequence[str]) -> None: ...
def build_image(dockerfile: Path, tag: str, context: Path, base_image: str | None) -> None: ...
