"""Train a network under an L1 penalty and watch its weights: the runs behind §3's experiments with VGG16."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.dynamics.device_training import DeviceTraining
from nonsmooth.dynamics.streaming import CHUNK, StreamedTraining
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint, say_unusable

EVALUATION_BATCH = {"cpu": 64, "cuda": 1000}
"""Images at once: what a cache holds, or what fills a device."""

Training = StreamedTraining | DeviceTraining


@dataclass(frozen=True)
class Magnitudes:
    """How large the parameters of a network are.

    Attributes:
        parameters: how many there are, P.
        l1_norm: Σ|w|.
        exact_zeros: how many are exactly 0.
        below: for each threshold asked for, the fraction with |w| less than it.
    """

    parameters: int
    l1_norm: float
    exact_zeros: int
    below: tuple[float, ...]


@torch.no_grad()
def magnitudes(model: nn.Module, thresholds: Sequence[float] = ()) -> Magnitudes:
    """Magnitudes of all parameters, in blocks that fit the cache.

    Sums are carried in float64: a float32 sum of 10⁸ weights of 5e-4 stalls when it is 2²⁴ times a weight.
    """
    total, zeros, count = 0.0, 0, 0
    below = [0] * len(thresholds)
    for parameter in model.parameters():
        count += parameter.numel()
        chunk = CHUNK if parameter.device.type == "cpu" else parameter.numel()
        for block in torch.split(parameter.detach().reshape(-1), chunk):
            size = block.abs()
            total += float(size.sum())
            if thresholds:
                zeros += size.numel() - int(torch.count_nonzero(size))
                for index, threshold in enumerate(thresholds):
                    below[index] += int((size < threshold).sum())
    return Magnitudes(count, total, zeros, tuple(n / count for n in below))


@dataclass(frozen=True)
class Performance:
    """What a network makes of images it was not trained on.

    Attributes:
        accuracy: share of images whose class it names.
        cross_entropy: mean over the images.
        classes_named: number of different classes it names; 1 means that it no longer looks at the image.
    """

    accuracy: float
    cross_entropy: float
    classes_named: int


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, labels: Tensor, device: str = "cpu") -> Performance:
    """Performance on images, dropout off."""
    was_training = model.training
    model.eval()
    batches = torch.split(inputs, EVALUATION_BATCH.get(torch.device(device).type, 64))
    outputs = torch.cat([model(batch.to(device)) for batch in batches]).float().cpu()
    model.train(was_training)
    named = outputs.argmax(dim=1)
    return Performance(
        accuracy=float((named == labels).double().mean()),
        cross_entropy=float(functional.cross_entropy(outputs, labels)),
        classes_named=len(set(named.tolist())),
    )


@dataclass
class PenalizedHistory:
    """What was seen along a run; steps count from 0, the start.

    Attributes:
        step: steps at which the L1 norm was measured.
        l1_norm: Σ|w| there.
        train_step: first step of each stretch over which the batches' cross-entropy was averaged.
        train_cross_entropy: those averages.
        test_step: steps at which the network was evaluated.
        accuracy: share of right classes on the test images.
        test_cross_entropy: mean cross-entropy on them.
        classes_named: number of different classes named on them.
    """

    step: list[int] = field(default_factory=list)
    l1_norm: list[float] = field(default_factory=list)
    train_step: list[int] = field(default_factory=list)
    train_cross_entropy: list[float] = field(default_factory=list)
    test_step: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_cross_entropy: list[float] = field(default_factory=list)
    classes_named: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Schedule:
    """How long to train and when to look.

    Attributes:
        steps: number of steps.
        batch: images per step.
        measurements: evenly spaced measurements of the L1 norm, besides the start.
        evaluations: evenly spaced evaluations on the test images, besides the start.
        checkpoint_every: steps between checkpoints; 0 for none.

    Raises:
        ValueError: `steps`, `batch` or `measurements` is not positive, or another number is negative.
    """

    steps: int
    batch: int
    measurements: int = 50
    evaluations: int = 1
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "measurements"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted is a number of at least 1")
        for name in ("evaluations", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted is a number of at least 0")


def train_penalized(
    training: Training,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    schedule: Schedule,
    *,
    seed: int,
    device: str = "cpu",
    scratch: Path | None = None,
    owner: str = "",
    progress: Callable[[float], None] | None = None,
) -> PenalizedHistory:
    """Train on shuffled batches, dropout active, as appendix B does.

    The order of the images and the dropout masks are functions of the seed and the step alone, so that a run resumed
    from a checkpoint takes the very steps that it would have taken.

    Args:
        training: network and update rule, the network on `device`.
        train: images (N, ...) and classes (N,), on the CPU.
        test: the same, for the evaluations.
        schedule: how long, and when to look.
        seed: of the order and of dropout.
        device: where the network lies.
        scratch: folder for the checkpoint; one found there is resumed from. One that is damaged, of another owner or
            does not fit is not, and that is said by a warning.
        owner: whose run it is, such as the key of a cell; only its own checkpoint is resumed from.
        progress: called with the fraction done.

    Raises:
        ValueError: the batch is larger than the training set.
    """
    inputs, labels = (whole.to(device) for whole in train)
    if schedule.batch > len(labels):
        raise ValueError(
            f"batch is {schedule.batch}; accepted is a number of at most {len(labels)}, the images there are"
        )
    checkpoint = scratch / "checkpoint.pt" if scratch is not None and schedule.checkpoint_every else None
    done, history, losses = _resume(training, checkpoint, owner, schedule.steps)
    measured = _spaced(schedule.steps, schedule.measurements)
    evaluated = _spaced(schedule.steps, schedule.evaluations)
    training.model.train()
    batches_per_epoch = math.ceil(len(labels) / schedule.batch)
    order, order_epoch = torch.empty(0, dtype=torch.int64), -1
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        for step in range(done, schedule.steps + 1):
            if step in measured and step not in history.step:
                _measure(training.model, step, losses, history)
                losses = []
            if step in evaluated and step not in history.test_step:
                with training.autocast():
                    performance = evaluate(training.model, *test, device=device)
                history.test_step.append(step)
                history.accuracy.append(performance.accuracy)
                history.test_cross_entropy.append(performance.cross_entropy)
                history.classes_named.append(performance.classes_named)
            if checkpoint is not None and step > done and step % schedule.checkpoint_every == 0:
                save_checkpoint(checkpoint, _state(training, step, history, losses), owner)
            if step == schedule.steps:
                break
            epoch, batch = divmod(step, batches_per_epoch)
            if epoch != order_epoch:
                generator = torch.Generator().manual_seed(_mixed(seed, epoch))
                order, order_epoch = torch.randperm(len(labels), generator=generator).to(device), epoch
            chosen = order[batch * schedule.batch : (batch + 1) * schedule.batch]
            _seed_dropout(device, _mixed(seed, -1 - step))
            losses.append(training.step(inputs[chosen], labels[chosen]))
            if progress is not None:
                progress((step + 1) / schedule.steps)
    return history


def _seed_dropout(device: str, seed: int) -> None:
    """Seed the generator that dropout draws from; torch.manual_seed would also record a stack trace at every call."""
    if device.startswith("cuda"):
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _spaced(steps: int, count: int) -> set[int]:
    """`count` evenly spaced steps up to the last, and the start."""
    return {0} | {round(steps * (index + 1) / count) for index in range(count)}


def _mixed(seed: int, index: int) -> int:
    """A seed of its own for every epoch (index ≥ 0) and every step (index < 0)."""
    return (seed * 1_000_003 + index * 2_654_435_761) % (1 << 63)


def _measure(model: nn.Module, step: int, losses: Sequence[float | Tensor], history: PenalizedHistory) -> None:
    """Add the L1 norm, and the mean cross-entropy of the batches since the last measurement."""
    if losses:
        history.train_step.append(history.step[-1])
        history.train_cross_entropy.append(math.fsum(_plain(losses)) / len(losses))
    history.step.append(step)
    history.l1_norm.append(magnitudes(model).l1_norm)


def _plain(losses: Sequence[float | Tensor]) -> list[float]:
    """Losses as numbers; those that lie on a device are fetched at once."""
    on_device = [loss for loss in losses if isinstance(loss, Tensor)]
    fetched = iter(torch.stack(on_device).tolist() if on_device else ())
    return [next(fetched) if isinstance(loss, Tensor) else loss for loss in losses]


def _state(
    training: Training, step: int, history: PenalizedHistory, losses: Sequence[float | Tensor]
) -> dict[str, Any]:
    return {
        "step": step,
        "model": training.model.state_dict(),
        "training": training.state_dict(),
        "history": asdict(history),
        "losses": _plain(losses),
    }


def _resume(
    training: Training, path: Path | None, owner: str, steps: int
) -> tuple[int, PenalizedHistory, list[float | Tensor]]:
    """Where to go on: from the checkpoint if there is a usable one, or from the start."""
    state = load_checkpoint(path, owner) if path is not None else None
    if path is None or state is None:
        return 0, PenalizedHistory(), []
    before = copy.deepcopy((training.model.state_dict(), training.state_dict()))
    try:
        step, history, losses = state["step"], PenalizedHistory(**state["history"]), list(state["losses"])
        if not isinstance(step, int) or not 0 < step <= steps:
            raise ValueError(f"it is of step {step}, and the run has {steps}")  # noqa: TRY301
        training.model.load_state_dict(state["model"])
        training.load_state_dict(state["training"])
    # What does not fit may be noticed half-way, and the measurement must begin from its own start.
    except Exception as error:
        training.model.load_state_dict(before[0])
        training.load_state_dict(before[1])
        say_unusable(path, error)
        return 0, PenalizedHistory(), []
    return step, history, losses
