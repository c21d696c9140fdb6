"""What every image promises, read off its Dockerfile: the same rules hold for an engine that isn't on this machine."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = {
    "operator": "modelloop",
    "trainer": "modelkit.train",
    "server": "modelkit.serve",
    "monitor": "modelkit.monitor",
}


def read_instructions(image: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile in order, as (name, argument), continuation lines joined and comments left out."""
    text = (ROOT / "images" / image / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in joined.splitlines() if line.strip()]


def arguments(image: str, instruction: str) -> list[str]:
    """All arguments of one instruction."""
    return [argument for name, argument in read_instructions(image) if name == instruction]


@pytest.mark.parametrize("image", MODULES)
def test_the_base_image_can_be_replaced(image: str) -> None:
    assert read_instructions(image)[:2] == [("ARG", "BASE_IMAGE=python:3.11-slim-bookworm"), ("FROM", "${BASE_IMAGE}")]


@pytest.mark.parametrize("image", MODULES)
def test_the_user_is_numeric_and_not_root_and_nothing_runs_after_it(image: str) -> None:
    assert read_instructions(image)[-1] == ("USER", "65532:65532")


@pytest.mark.parametrize(("image", "module"), MODULES.items())
def test_the_entry_point_is_python_and_the_default_is_the_module(image: str, module: str) -> None:
    assert arguments(image, "ENTRYPOINT") == ['["/opt/venv/bin/python"]']
    assert arguments(image, "CMD") == [f'["-m", "{module}"]']


@pytest.mark.parametrize("image", MODULES)
def test_dependencies_come_from_locks_and_before_the_code(image: str) -> None:
    instructions = read_instructions(image)
    installed = [i for i, (name, argument) in enumerate(instructions) if name == "RUN" and "install.sh" in argument]
    code = [i for i, (name, argument) in enumerate(instructions) if name == "COPY" and "/src/" in argument]
    assert installed
    assert code
    assert max(installed) < min(code)
    for position in installed:
        lock = re.fullmatch(r"sh /opt/requirements/install\.sh (\S+\.lock)", instructions[position][1])
        assert lock is not None
        assert (ROOT / "requirements" / lock.group(1)).is_file()
        assert instructions[position - 1] == ("COPY", f"requirements/{lock.group(1)} /opt/requirements/")
    assert instructions[installed[-1]][1].endswith(f" {image}.lock")


@pytest.mark.parametrize("image", MODULES)
def test_nothing_needs_buildkit(image: str) -> None:
    text = (ROOT / "images" / image / "Dockerfile").read_text()
    assert not re.search(r"^# *syntax=|--mount=|--chmod=|--link|<<", text, re.MULTILINE)


def test_all_images_begin_with_the_same_layers() -> None:
    heads = {image: read_instructions(image)[:5] for image in MODULES}
    assert all(head == heads["operator"] for head in heads.values())
    shared = [read_instructions(image)[5:7] for image in ("trainer", "server", "monitor")]
    assert shared[0] == shared[1] == shared[2]
    assert read_instructions("trainer")[7:9] == read_instructions("monitor")[7:9]


@pytest.mark.parametrize("image", MODULES)
def test_onnx_runtime_reports_to_nobody(image: str) -> None:
    has_it = re.search(r"^onnxruntime==", (ROOT / "requirements" / f"{image}.lock").read_text(), re.MULTILINE)
    assert ("ORT_DISABLE_TELEMETRY=1" in arguments(image, "ENV")) == bool(has_it)


def test_the_trainer_server_and_monitor_carry_no_control_plane() -> None:
    for image in ("trainer", "server", "monitor"):
        assert not any("operator/" in argument for argument in arguments(image, "COPY"))


def test_the_installer_checks_hashes_and_takes_wheels_only() -> None:
    text = (ROOT / "requirements" / "install.sh").read_text()
    installs = [
        line for line in text.replace("\\\n", " ").splitlines() if " install " in line and not line.startswith("#")
    ]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]


def test_the_build_context_holds_only_what_is_copied() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = tuple(line.removeprefix("!").removesuffix("*.lock") for line in lines if line.startswith("!"))
    for image in MODULES:
        for argument in arguments(image, "COPY"):
            assert argument.split()[0].startswith(allowed)
