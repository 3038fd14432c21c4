"""Steps of SGD and of Adam with the prox of a penalty that is a sum over coordinates, in one pass over memory.

The order of operations is that of torch's fused steps (torch/optim/sgd.py and adam.py, ATen's FusedSgdKernel.cu and
fused_adam_utils.cuh), but that `maximize` turns the gradient around before all else, as torch's other steps do. The
states are rounded to their type before the metric is read from them, as if a prox had followed torch's step; the point
is not rounded in between.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nonsmooth.kernels.arithmetic import TYPES, computed_in
from nonsmooth.kernels.separable import WARPS, check_call
from nonsmooth.kernels.step_programs import adam_program, sgd_program
from nonsmooth.kernels.tables import Launch, Role, Table


def sgd_step_(
    kind: str,
    points: list[Tensor],
    grads: list[Tensor],
    momenta: Role,
    numbers: Tensor,
    *,
    table: Table,
    nesterov: bool = False,
    maximize: bool = False,
    scaled: bool = False,
    pulls: Role = None,
    strengths: Role = None,
) -> None:
    """Overwrite parameters by a step of torch.optim.SGD and its prox, and momenta by theirs.

    A launch reads and writes each point once, and reads its gradient once; momenta and pulls it reads and writes once,
    and gradients it writes where they are scaled.

    Args:
        kind: the penalty, one of `separable.KINDS`.
        points: w, float16, bfloat16, float32 or float64.
        grads: g.
        momenta: the momentum buffers; None for no momentum. At the first step of a parameter its buffer is zero and
            DAMPENING 0, so that its momentum becomes the gradient.
        numbers: rows HALTED, STRENGTH (unless `strengths` are given), SHAPE (for all kinds but "l1" and "l0"), STEP,
            RATE, WEIGHT_DECAY; with momenta MOMENTUM and DAMPENING; with pulls COUNT and FORGETTING; if scaled
            GRAD_SCALE.
        table: of this list of parameters.
        nesterov: Nesterov's momentum.
        maximize: whether f is to grow.
        scaled: whether gradients are divided by GRAD_SCALE, and stored so.
        pulls: the memory of a steady optimiser, in the type that is computed in.
        strengths: λcⱼ by coordinate.

    Raises:
        ValueError: an argument is none of those accepted.
    """
    check_call(kind, numbers, len(points), steady=pulls is not None)
    with table.on_device():
        for launch in table.launches((points, grads, momenta, pulls, strengths)):
            _launch(
                sgd_program, launch, numbers, table.block, kind, scaled=scaled, MAXIMIZE=maximize,
                STEADY=pulls is not None, NUMBER=strengths is None, MOMENTA=momenta is not None, NESTEROV=nesterov,
            )  # fmt: skip


def adam_step_(
    kind: str,
    points: list[Tensor],
    grads: list[Tensor],
    averages: list[Tensor],
    squares: list[Tensor],
    numbers: Tensor,
    *,
    table: Table,
    largest_squares: Role = None,
    decoupled: bool = False,
    maximize: bool = False,
    scaled: bool = False,
    pulls: Role = None,
    strengths: Role = None,
) -> None:
    """Overwrite parameters by a step of torch.optim.Adam or AdamW and its prox, and the states by theirs.

    A launch reads and writes each point, average, square and pull once, and reads its gradient once; gradients it
    writes where they are scaled. The prox has its limit, but for weights that were 0 before the step.

    Args:
        kind: the penalty, one of `separable.KINDS`.
        points: w, float16, bfloat16, float32 or float64.
        grads: g.
        averages: the running means of the gradients.
        squares: the running means of their squares.
        numbers: rows HALTED, STRENGTH (unless `strengths` are given), SHAPE (for all kinds but "l1" and "l0"), SCALE,
            EPSILON, FULL, TIMES, SLACK, RATE, WEIGHT_DECAY, FIRST_BETA, SECOND_BETA, DIVISOR, CORRECTION and
            ROOT_CORRECTION, of the step that is taken; with pulls COUNT, FORGETTING and WARM_UP; if scaled GRAD_SCALE.
        table: of this list of parameters.
        largest_squares: the largest squares so far, for AMSGrad, from which its metric is read.
        decoupled: whether the weight decay is AdamW's.
        maximize: whether f is to grow.
        scaled: whether gradients are divided by GRAD_SCALE, and stored so.
        pulls: the memory of a steady optimiser, in the type that is computed in.
        strengths: λcⱼ by coordinate.

    Raises:
        ValueError: an argument is none of those accepted.
    """
    check_call(kind, numbers, len(points), steady=pulls is not None)
    with table.on_device():
        for launch in table.launches((points, grads, averages, squares, largest_squares, pulls, strengths)):
            _launch(
                adam_program, launch, numbers, table.block, kind, scaled=scaled, MAXIMIZE=maximize,
                STEADY=pulls is not None, NUMBER=strengths is None, AMSGRAD=largest_squares is not None,
                DECOUPLED=decoupled,
            )  # fmt: skip


def _launch(
    program: Any, launch: Launch, numbers: Tensor, block: int, kind: str, *, scaled: bool, **constants: bool
) -> None:
    program[(launch.blocks,)](
        numbers,
        numbers.shape[1],
        launch.layout,
        launch.owners,
        launch.addresses,
        launch.tensors,
        KIND=kind,
        SCALED=scaled,
        **constants,
        TYPES=tuple(TYPES[dtype] for dtype in launch.dtypes),
        T=computed_in(launch.dtypes[0]),
        ALIGNED=launch.aligned,
        BLOCK=block,
        num_warps=WARPS,
        enable_fp_fusion=False,  # PyTorch rounds a product before it subtracts it
    )
