"""The locks: every download is checked, none names where it comes from, and all images agree."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted(path.name for path in (ROOT / "requirements").glob("*.lock"))
OTHERS = sorted(f"others/{path.name}" for path in (ROOT / "requirements" / "others").glob("*.lock"))
"""Of environments for programs that aren't ours: other servers, to compare with, and clients."""
PARTS = {
    "shared.lock": ("trainer.lock", "server.lock", "monitor.lock"),
    "shared-arrow.lock": ("trainer.lock", "monitor.lock"),
}
"""Locks of the layers that images share, and whose locks they are a part of."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of a lock."""

    requirement: Requirement
    hashes: tuple[str, ...]


def read_pins(lock: str) -> list[Pin]:
    """Every requirement of a lock, with its hashes."""
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    pins = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        stated, *hashes = re.split(r"\s+--hash=", line)
        pins.append(Pin(Requirement(stated.strip()), tuple(each.strip() for each in hashes)))
    return pins


def versions(lock: str) -> dict[str, set[str]]:
    """Package to pinned versions; more than one where markers for the Python version part them."""
    found: dict[str, set[str]] = {}
    for pin in read_pins(lock):
        found.setdefault(canonicalize_name(pin.requirement.name), set()).add(str(pin.requirement.specifier))
    return found


def test_every_image_and_the_development_environment_have_a_lock() -> None:
    assert set(LOCKS) == {"operator.lock", "trainer.lock", "server.lock", "monitor.lock", "dev.lock", *PARTS}


@pytest.mark.parametrize("lock", [*LOCKS, *OTHERS])
def test_every_requirement_is_pinned_exactly_and_has_a_hash(lock: str) -> None:
    pins = read_pins(lock)
    assert pins
    for pin in pins:
        assert re.fullmatch(r"==[^*,]+", str(pin.requirement.specifier)), pin.requirement
        assert pin.hashes, pin.requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in pin.hashes), pin.requirement


@pytest.mark.parametrize("lock", [*LOCKS, *OTHERS])
def test_no_lock_says_where_packages_come_from(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host|-e)", text, re.MULTILINE)


@pytest.mark.parametrize("lock", [each for each in LOCKS if each != "dev.lock"])
def test_what_runs_in_an_image_is_what_was_developed_with(lock: str) -> None:
    developed = versions("dev.lock")
    assert {name: pinned for name, pinned in versions(lock).items() if developed.get(name) != pinned} == {}


@pytest.mark.parametrize(("part", "whole"), [(part, whole) for part, wholes in PARTS.items() for whole in wholes])
def test_a_shared_layer_holds_nothing_that_the_image_would_not_have(part: str, whole: str) -> None:
    assert versions(part).items() <= versions(whole).items()


@pytest.mark.parametrize("image", ["operator", "trainer", "server", "monitor"])
def test_a_lock_meets_what_the_project_asks_for(image: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = versions(f"{image}.lock")
    for stated in map(Requirement, project["optional-dependencies"][image]):
        found = pinned.get(canonicalize_name(stated.name))
        assert found, f"{stated.name} isn't in {image}.lock: run make lock"
        assert all(stated.specifier.contains(version.removeprefix("==")) for version in found), stated
