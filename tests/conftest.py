"""What every test gets: the same random numbers each time, one thread a worker, and a way to the data."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

# Of random programs: another one each day, the same in all workers.
os.environ.setdefault("TORCHJAC_PROGRAMS_SEED", str(int(time.time()) // 86_400 * 1000))

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


class TorchRandom:
    """torch's generator in the words of `random.Random`, so that Hypothesis replays it for every example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_RANDOM = TorchRandom()  # Hypothesis keeps a weak reference only
hypothesis.register_random(TORCH_RANDOM)
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)  # the first example may compile kernels
hypothesis.settings.register_profile("ci", hypothesis.settings.get_profile("dev"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header() -> str:
    return f"random programs: TORCHJAC_PROGRAMS_SEED={os.environ['TORCHJAC_PROGRAMS_SEED']}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch.cuda.is_available() is False"))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test may use the global generator
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with matrices/ and the bundle adjustment: TORCHJAC_DATA, else ../shared/data."""
    if named := os.environ.get("TORCHJAC_DATA"):
        if not Path(named).is_dir():
            pytest.fail(f"TORCHJAC_DATA={named!r} is not a folder")
        return Path(named)
    beside = ROOT.parent / "shared" / "data"
    if not beside.is_dir():
        pytest.skip(f"no data: TORCHJAC_DATA is not set, and {beside} does not exist")
    return beside


@pytest.fixture
def products_only(monkeypatch):
    """auto chooses among products: direct accumulation is not tried."""
    monkeypatch.setattr("torchjac._plan.prepare.worth_accumulating", lambda *_: False)
