"""Under DistributedDataParallel products are the mean over processes, and the run goes on as if without them."""

import sys
from pathlib import Path

import pytest
import torch

PROGRAMS = Path(__file__).parent / "distributed_programs"
sys.path.insert(0, str(Path(__file__).parents[1] / "optim" / "distributed_programs"))

from processes import run_together  # noqa: E402

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="needs a torch with torch.distributed and its gloo backend",
    ),
]


def test_two_processes_measure_the_sharpness_of_all_data(tmp_path):
    report = run_together(PROGRAMS / "sharpness_under_ddp.py", 2, tmp_path)
    assert report["double backward"] == pytest.approx(report["whole"], rel=1e-7)
    assert report["finite differences"] == pytest.approx(report["whole"], rel=1e-4)
    assert report["gradient"] == pytest.approx(report["whole gradient"], rel=1e-12)
    assert report["same bits"] == [True, True]
