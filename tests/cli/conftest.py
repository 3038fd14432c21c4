"""The command line with two invented claims in place of the real ones, here and in the workers' processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"
PATCH = f"""
import nonsmooth.claims
nonsmooth.claims.__path__.insert(0, {str(FAKES)!r})
from nonsmooth.claims import registry
registry.CLAIM_IDS = ("capture", "rate")
"""


@pytest.fixture
def environment(tmp_path):
    """Environment variables under which every Python process knows the invented claims."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(PATCH)
    return {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "80", "NO_COLOR": "1"}


@pytest.fixture
def command(environment, tmp_path):
    """Run `nonsmooth` as a user does, in a folder of its own."""

    def run(*arguments, **variables):
        if arguments[0] == "reproduce" and "--workers" not in arguments:
            arguments += ("--workers", "1")  # each worker takes seconds to load torch
        return subprocess.run(
            [sys.executable, "-c", "from nonsmooth.cli import main; main()", *arguments],
            env={**environment, **variables},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
