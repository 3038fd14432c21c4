"""Start a program in several processes that find each other, and be one of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ATTEMPTS = 3
PATIENCE = 240.0


def run_together(program: Path, count: int, folder: Path, patience: float = PATIENCE) -> dict[str, Any]:
    """What the first of the processes reports; an AssertionError with their output where one fails.

    Once in a while gloo's own thread dies of a segmentation fault, and its process without a word: then once more.
    """
    for attempt in range(ATTEMPTS):
        place = folder / f"attempt-{attempt}"
        place.mkdir()
        codes, said = _run(program, count, place, patience)
        if -signal.SIGSEGV not in codes:
            break
        warnings.warn(f"attempt {attempt + 1}: a process died of a segmentation fault", stacklevel=2)
    assert codes == [0] * count, said
    report: dict[str, Any] = json.loads((place / "report.json").read_text())
    return report


def _run(program: Path, count: int, folder: Path, patience: float) -> tuple[list[int], str]:
    """The exit codes of the processes, and what they said."""
    logs = [folder / f"log-{rank}" for rank in range(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "WORLD_SIZE": str(count)}
    running: list[subprocess.Popen[bytes]] = []
    try:
        for rank, log in enumerate(logs):
            with log.open("wb") as output:
                command = [sys.executable, str(program), str(rank), str(count), str(folder)]
                running.append(
                    subprocess.Popen(command, stdout=output, stderr=output, env={**environment, "RANK": str(rank)})
                )
        for process in running:
            process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    said = "\n".join(f"process {rank}:\n{log.read_text()[-4000:]}" for rank, log in enumerate(logs))
    return [process.returncode for process in running], said


def take_part(main: Callable[[int, Path], dict[str, Any]]) -> None:
    """Join the other processes, do what there is to do, and let the first one write down what came of it."""
    rank, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=count)
    try:
        report = main(rank, folder)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once: the others may wait for this one
    if rank == 0:
        (folder / "report.json").write_text(json.dumps(report))
    dist.barrier()
    # Not by way of the interpreter's end: what gloo has running may abort the process there, with all work done.
    sys.stdout.flush()
    os._exit(0)
