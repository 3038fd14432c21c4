"""What every test may ask for: data that the project does not ship, a browser, and one thread."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Cells run on one thread, so that their bits do not depend on the machine; tests measure the same way.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data sets that the project may not ship: NONSMOOTH_DATA, or shared/data beside the repository."""
    named = os.environ.get("NONSMOOTH_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs data that the project does not ship: NONSMOOTH_DATA is unset and {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium, for Playwright's `executable_path`."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return found
