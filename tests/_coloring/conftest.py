"""Stand-in for tests/conftest.py where that is not there: the way to the data, and no deadline for examples."""

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("no deadline", deadline=None, print_blob=True)  # the first example may compile
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with matrices/: TORCHJAC_DATA, else ../shared/data."""
    folder = Path(os.environ.get("TORCHJAC_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is not a folder")
    return folder
