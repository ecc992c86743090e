"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real scans (`la/`, `acdc/`, `ct/`); research data that is not part of the repository."""
    folder = Path(os.environ.get("SEMISEG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real scans are not here: set SEMISEG_TEST_DATA (looked in {folder})")
    return folder
