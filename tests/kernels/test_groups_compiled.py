"""The program for groups, compiled for GPUs: what the interpreter accepts, a compiler may not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "compile_groups.py"


@pytest.mark.processes
@pytest.mark.parametrize("capability", ["80", "90"])
def test_it_compiles_and_moves_sixteen_bytes_at_once(capability, tmp_path):
    pytest.importorskip("triton.backends.nvidia")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    output = subprocess.run(
        [sys.executable, str(PROGRAM), capability], capture_output=True, check=True, text=True, env=environment
    ).stdout
    found = [json.loads(line) for line in output.splitlines()]
    assert len(found) == 11
    for case in found:
        if case["name"] == "input channels":
            assert case["wide"] == 0  # runs of nine coordinates
        else:
            assert case["wide"] > 0
            assert case["narrow"] <= 2  # which row of the table a program takes; a weight
