"""What is as deep as a plain pass can be is measured as well."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nonsmooth.curvature import kink_gap, sharpness


class Nested(nn.Module):
    """Modules inside each other: three frames of Python and one of C for each."""

    def __init__(self, depth):
        super().__init__()
        self.inner = Nested(depth - 1) if depth else nn.Linear(3, 1)

    def forward(self, rows):
        return self.inner(rows)


def frames():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


@pytest.mark.parametrize("measure", [sharpness, kink_gap])
@pytest.mark.parametrize("mode", [None, "train"])
def test_a_deeply_nested_model_is_measured_where_its_plain_pass_works(measure, mode):
    room = sys.getrecursionlimit() - frames()
    model, rows = Nested((room - 60) // 4), torch.ones(2, 3)
    model(rows)
    measure(lambda: model(rows).square().mean(), model.parameters(), mode=mode)


def test_a_long_chain_of_operations_is_measured_and_freed():
    """In a process of its own, which an overflow of the stack would end."""
    program = (
        "import torch; from nonsmooth.curvature import sharpness\n"
        "w = torch.ones(1, dtype=torch.float64, requires_grad=True)\n"
        "def loss():\n"
        "    y = w\n"
        "    for _ in range(100_000): y = y * 1.00001\n"
        "    return y.square().sum()\n"
        "found = sharpness(loss, [w]); print(found.value / (2 * 1.00001 ** 200_000))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert float(done.stdout) == pytest.approx(1)
