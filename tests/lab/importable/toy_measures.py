"""Measurements that another process can import; each leaves a line in a log when it starts and when it ends."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch


def _log(context, text):
    log = os.environ.get("TOY_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write(f"{text} {os.getpid()}\n")


def draws(cell, context):
    """A few sums of normal draws, with a matrix product whose bits would depend on the number of threads."""
    _log(context, f"start {cell.key}")
    generator = np.random.default_rng(cell.seed)
    matrix = generator.standard_normal((150, 150))
    for part in range(4):
        time.sleep(cell.parameters.get("sleep", 0.0) / 4)
        context.progress((part + 1) / 4)
    product = matrix @ matrix.T
    values = {"product": product[0], "trace": np.trace(product), "count": int(generator.integers(100)), "name": "toy"}
    _log(context, f"end {cell.key}")
    return values


def fails_when_odd(cell, context):
    if cell.seed % 2:
        raise ArithmeticError(f"seed {cell.seed} is odd")
    return draws(cell, context)


def environment(cell, context):
    """What the lab promises a measurement: one thread, its own folder."""
    (context.scratch / "checkpoint").write_text("half")
    return {
        "torch": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "omp": os.environ["OMP_NUM_THREADS"],
        "scratch": context.scratch.name,
        "ignores_interrupts": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "process": os.getpid(),
    }


def dies(cell, context):
    """Is killed, as a process without memory is, where the seed is 2."""
    if cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return draws(cell, context)


def returns_a_set(cell, context):
    return {"bad": {1, 2}}


def exits(cell, context):
    raise SystemExit(3)


def leaves_a_checkpoint(cell, context):
    (context.scratch / "checkpoint").write_text("half")
    return {"seed": cell.seed}


def succeeds_from_its_checkpoint(cell, context):
    checkpoint = context.scratch / "checkpoint"
    if not checkpoint.exists():
        checkpoint.write_text("half")
        raise RuntimeError("no checkpoint")
    return {"found": True}


def tells_its_context(cell, context):
    return {"device": context.device, "data": context.data}


def holds_on(cell, context):
    """Takes for ever and does not listen, except for the cell that is measured first."""
    _log(context, f"start {cell.key}")
    if cell.seed == 0:
        return {"seed": 0}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.1)


def floods(cell, context):
    """Sends back far more than a pipe holds."""
    _log(context, f"start {cell.key}")
    return {"noise": np.random.default_rng(cell.seed).random(100_000)}


def dies_while_sending(cell, context):
    """Is killed where the seed is 2, when a part of its result is on its way."""
    main = threading.main_thread().ident

    def watch():
        while sys._current_frames()[main].f_code.co_name != "_send":
            time.sleep(0.0001)
        os.kill(os.getpid(), signal.SIGKILL)

    if cell.seed == 2:
        threading.Thread(target=watch, daemon=True).start()
        return {"long": "x" * 100_000_000}
    return draws(cell, context)
