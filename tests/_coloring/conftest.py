"""The way to the data, as everywhere in the tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with matrices/: TORCHJAC_DATA, else ../shared/data."""
    folder = Path(os.environ.get("TORCHJAC_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} is not a folder")
    return folder
