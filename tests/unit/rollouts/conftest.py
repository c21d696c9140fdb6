"""One workshop for all tests: its trainings take a few seconds."""

import pytest

from tests.e2e.e2e_versions import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Writes versions into a folder."""
    return Workshop(tmp_path_factory.mktemp("store"))
