"""Train a network on images, step by step: explicit random numbers, an optional L1 penalty, resumable bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from nonsmooth.data import Images
from nonsmooth.deprecation import renamed_arguments
from nonsmooth.foreign_text import visible
from nonsmooth.lab.checkpoint import load_checkpoint, save_checkpoint, say_unusable

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
OptimiserFactory = OptimizerFactory  # the old name, for one version
CHECKPOINT = "training.pt"


@dataclass
class History:
    """What was seen while training.

    Attributes:
        steps: the steps at which the loss was recorded; the first step is 1.
        losses: the training loss of the batch before that step's update, without the penalty.
        evaluations: one list per name, with an entry per epoch; epoch 0 is the start. "epoch" and "step" say when.
        diverged_at: the step at which the loss or a parameter was no longer finite, and training stopped; or None.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    evaluations: dict[str, list[Any]] = field(default_factory=dict)
    diverged_at: int | None = None


def sgd(lr: float, momentum: float = 0.0) -> OptimizerFactory:
    """A factory of `torch.optim.SGD`."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)


@torch.no_grad()
def evaluate(model: nn.Module, images: Images, batch_size: int = 500, device: str = "cpu") -> tuple[float, float]:
    """Mean cross-entropy and accuracy, in evaluation mode; the model's mode is put back afterwards."""
    was_training = model.training
    model.eval()
    loss = correct = 0.0
    for inputs, labels in zip(
        *(torch.split(whole, batch_size) for whole in (images.inputs, images.labels)), strict=True
    ):
        target = labels.to(device)
        outputs = model(inputs.to(device))
        loss += functional.cross_entropy(outputs, target, reduction="sum").item()
        correct += (outputs.argmax(1) == target).sum().item()
    model.train(was_training)
    return loss / len(images), correct / len(images)


@renamed_arguments(optimiser="optimizer")
def train(
    model: nn.Module,
    images: Images,
    *,
    optimizer: OptimizerFactory,
    batch_size: int,
    seed: int,
    epochs: int | None = None,
    steps: int | None = None,
    penalty: float = 0.0,
    evaluate_on: Mapping[str, Images] | None = None,
    observe: Mapping[str, Callable[[nn.Module], Any]] | None = None,
    record_every: int = 1,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1,
    owner: str = "",
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> History:
    """Minimise cross-entropy + λ·Σ|p| over all parameters p by minibatches, in place.

    The penalty enters as App. B has it, through its subgradient λ·sign(p) with sign(0) = 0, so nothing here makes a
    parameter exactly zero. Each epoch goes through all images once in an order that the seed and the epoch give; its
    last batch may be smaller. The global random numbers, which dropout draws from, are seeded with `seed` inside and
    put back afterwards.

    Args:
        model: trained in place, and moved to `device`.
        images: what to train on.
        optimizer: takes the parameters, returns a `torch.optim.Optimizer`.
        batch_size: images per step.
        seed: of the order of images and of dropout.
        epochs: passes over the images; either this or `steps`.
        steps: number of steps, where training may end within an epoch.
        penalty: λ ≥ 0.
        evaluate_on: name to images: "<name> loss" and "<name> accuracy" are recorded before the first epoch, after
            each epoch and at the end.
        observe: name to a function of the model, called at the same moments; what it returns is recorded. It must
            not change the model.
        record_every: the loss of every so-manieth step is recorded, and checked for being finite.
        checkpoint: a folder in which to keep the state, and from which to go on if it holds one; None for neither. A
            state that is damaged, of another owner or does not fit is not used, and that is said by a warning.
        checkpoint_every: epochs between checkpoints.
        owner: whose run it is, such as the key of a cell; only its own checkpoint is used.
        device: a torch device string.
        progress: called with the fraction done, between 0 and 1.

    Returns:
        The history, from the first step on even where training went on from a checkpoint.

    Raises:
        ValueError: a count below 1, a negative penalty, both or neither of `epochs` and `steps`, or a checkpoint
            that was made with other settings.
    """
    for name, count in (
        ("batch_size", batch_size),
        ("record_every", record_every),
        ("checkpoint_every", checkpoint_every),
        ("epochs", epochs),
        ("steps", steps),
    ):
        if count is not None and count < 1:
            raise ValueError(f"{name} is {count}; accepted are numbers of at least 1")
    if (epochs is None) == (steps is None):
        raise ValueError(f"epochs is {epochs} and steps is {steps}; exactly one of them is needed")
    if not (penalty >= 0 and math.isfinite(penalty)):
        raise ValueError(f"penalty is {penalty}; accepted are finite numbers that are not negative")
    per_epoch = math.ceil(len(images) / batch_size)
    total = steps if steps is not None else per_epoch * (epochs or 0)

    trainer = _Trainer(
        model=model.to(device).train(),
        optimizer=optimizer(model.parameters()),
        images=Images(images.inputs.to(device), images.labels.to(device), images.name, images.classes),
        settings={"batch_size": batch_size, "seed": seed, "penalty": penalty, "images": len(images)},
        evaluate_on=evaluate_on or {},
        observe=observe or {},
        device=device,
        owner=owner,
    )
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        epoch = trainer.resume(checkpoint, math.ceil(total / per_epoch)) if checkpoint is not None else 0
        if epoch == 0:
            trainer.evaluate(0, 0)
        while epoch * per_epoch < total:
            for step, batch in enumerate(_batches(len(images), batch_size, seed, epoch), start=epoch * per_epoch + 1):
                if step > total:
                    break
                if not trainer.step(step, batch.to(device), record=step % record_every == 0 or step == total):
                    return trainer.history
                if progress is not None:
                    progress(step / total)
            epoch += 1
            trainer.evaluate(epoch, min(epoch * per_epoch, total))
            if checkpoint is not None and epoch % checkpoint_every == 0:
                trainer.save(checkpoint, epoch)
    return trainer.history


def _batches(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices of the images of each batch of an epoch."""
    # Each epoch has a seed of its own, so that going on from a checkpoint needs no state of this generator.
    # PyTorch's generator keeps the low 32 bits of a seed, so the two may not be told apart by higher ones.
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 32))
    return torch.split(torch.randperm(count, generator=generator), batch_size)


@dataclass
class _Trainer:
    """The state of a run and what is done to it."""

    model: nn.Module
    optimizer: Optimizer
    images: Images
    settings: dict[str, int | float]
    evaluate_on: Mapping[str, Images]
    observe: Mapping[str, Callable[[nn.Module], Any]]
    device: str
    owner: str
    history: History = field(default_factory=History)

    def step(self, step: int, batch: Tensor, record: bool) -> bool:
        """One update; False, and no update, where the loss is seen not to be finite."""
        loss = functional.cross_entropy(self.model(self.images.inputs[batch]), self.images.labels[batch])
        if record:
            value = loss.item()
            self.history.steps.append(step)
            self.history.losses.append(value)
            if not math.isfinite(value):
                self.history.diverged_at = step
                return False
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings["penalty"] > 0:
            self.add_penalty(self.settings["penalty"])
        self.optimizer.step()
        return True

    @torch.no_grad()
    def add_penalty(self, penalty: float) -> None:
        """Add λ·sign(p) to the gradients: what autograd gives for λ·Σ|p|, without its copies."""
        for parameter in self.model.parameters():
            if parameter.grad is None:
                parameter.grad = parameter.sign().mul_(penalty)
            else:
                parameter.grad.add_(parameter.sign(), alpha=penalty)

    def evaluate(self, epoch: int, step: int) -> None:
        """Append an entry to every list of evaluations."""
        entry: dict[str, Any] = {"epoch": epoch, "step": step}
        for name, images in self.evaluate_on.items():
            entry[f"{name} loss"], entry[f"{name} accuracy"] = evaluate(self.model, images, device=self.device)
        for name, quantity in self.observe.items():
            entry[name] = quantity(self.model)
        for name, value in entry.items():
            self.history.evaluations.setdefault(name, []).append(value)

    def save(self, folder: Path, epoch: int) -> None:
        """Write everything that the rest of the run depends on, all of it or nothing."""
        state = {
            "settings": self.settings,
            "epoch": epoch,
            "model": self.model.state_dict(),
            "optimiser": self.optimizer.state_dict(),
            "history": asdict(self.history),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.startswith("cuda") else None,
        }
        save_checkpoint(folder / CHECKPOINT, state, self.owner)

    def resume(self, folder: Path, epochs: int) -> int:
        """Restore what `save` wrote and return the number of epochs done; 0 where there is nothing usable."""
        path = folder / CHECKPOINT
        state = load_checkpoint(path, self.owner, self.device)
        if state is None:
            return 0
        if state.get("settings") != self.settings:
            made_with = visible(state.get("settings"))
            raise ValueError(f"checkpoint {path} was made with {made_with}, not with {self.settings}")
        before = copy.deepcopy((self.model.state_dict(), self.optimizer.state_dict(), torch.get_rng_state()))
        try:
            return self._restore(state, epochs)
        # What does not fit may be noticed half-way, and the run must begin from its own start.
        except Exception as error:
            self.model.load_state_dict(before[0])
            self.optimizer.load_state_dict(before[1])
            torch.set_rng_state(before[2])
            self.history = History()
            say_unusable(path, error)
            return 0

    def _restore(self, state: dict[str, Any], epochs: int) -> int:
        epoch = state["epoch"]
        if not isinstance(epoch, int) or not 0 < epoch <= epochs:
            raise ValueError(f"it is of epoch {epoch}, and the run has {epochs}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimiser"])
        self.history = History(**state["history"])
        torch.set_rng_state(state["random"].cpu())
        # Last, so that a state without it has left CUDA's generator as it was.
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)
        return epoch
