"""A path that other processes can import, and a command that trains it, for tests that kill it: FOLDER, SLEEP."""

import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

import nonsmooth as ns

STRENGTHS = (0.3, 0.1, 0.03, 0.01)
INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS[:, :2].sum(1, keepdim=True)


def make_model(seed):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))


def loss(model, seed):
    return (model(INPUTS) - TARGETS).square().mean()


def fit(model, penalty, seed):
    """Draws batches and dropout from the global generator, and leaves a line in a log."""
    time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
    if "TOY_LOG" in os.environ:
        with Path(os.environ["TOY_LOG"]).open("a") as file:
            file.write(f"{seed} {penalty.strength}\n")
    optimizer = ns.ProxSGD(ns.penalize(model, penalty), lr=0.1)
    for _ in range(60):
        rows = torch.randint(60, (16,))
        optimizer.zero_grad()
        (model(INPUTS[rows]) - TARGETS[rows]).square().mean().backward()
        optimizer.step()
    return optimizer


def score(model, seed):
    model.eval()
    return -(model(INPUTS) - TARGETS).square().squeeze(1)


def path(folder, **options):
    from nonsmooth.select import sparsity_path  # noqa: PLC0415

    return sparsity_path(
        make_model, fit, ns.L1(1.0), score=score, loss=loss, folder=folder, strengths=STRENGTHS, **options
    )


if __name__ == "__main__":
    import toy_path  # so that the functions have the same names as in the tests

    toy_path.path(sys.argv[1], seeds=(0, 1))
