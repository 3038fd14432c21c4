"""What a penalty costs: time and memory of a step, against the optimiser's own fused step and against other packages.

    python benchmarks/step_time.py [--quick] [--threads 1] [--output docs/benchmarks/step-time.md]

All steps run in one process on the same tensors, interleaved; ratios of medians are reported, since wall times on a
shared machine are noisy. Memory is what a step allocates beyond what was there before it, at its peak, counted tensor
by tensor as PyTorch hands them out.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
import weakref
from pathlib import Path

import torch
import torch._dynamo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from nonsmooth.models.vgg16 import Vgg16
from nonsmooth.optim import ProxAdam, ProxSGD
from nonsmooth.penalties import L1, ElasticNet, GroupL1

STRENGTH = 1e-5
COMPILED = ", compiled"
TARGETS = {"element-wise": 1.2, "group": 3.0}


def vgg16_shapes():
    """VGG16 at 224×224 pixels: 138 million parameters, three quarters of them in one matrix."""
    shapes = [tuple(parameter.shape) for parameter in Vgg16().parameters()]
    return sorted(shapes, key=len, reverse=True)  # convolutions, matrices, biases


def transformer_shapes():
    """GPT-2 small: 124 million parameters in 148 tensors."""
    block = [(2304, 768), (2304,), (768, 768), (768,), (3072, 768), (3072,), (768, 3072), (768,), *[(768,)] * 4]
    return [(50257, 768), (1024, 768), *(block * 12), (768,), (768,)]


MODELS = {"VGG16": vgg16_shapes, "transformer (GPT-2 small)": transformer_shapes}


class PeakMemory(TorchDispatchMode):
    """Bytes of tensors made while the mode is on, at their peak; those that were there before are not counted."""

    def __init__(self, present):
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in present}
        self._live, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage):
        address = storage.data_ptr()
        if address in self._known or address in self._live or not address:
            return
        self._live[address] = storage.nbytes()
        weakref.finalize(storage, self._live.pop, address, None)
        self.peak = max(self.peak, sum(self._live.values()))


def parameters(shapes, device="cpu"):
    """Parameters with gradients, as after a backward pass."""
    generator = torch.Generator(device).manual_seed(0)
    made = []
    for shape in shapes:
        parameter = torch.nn.Parameter(0.05 * torch.randn(shape, generator=generator, device=device))
        parameter.grad = 1e-3 * torch.randn(shape, generator=generator, device=device)
        made.append(parameter)
    return made


def split(made):
    """Groups as `penalize` makes them: matrices and filters carry the penalty."""
    return [{"params": [p for p in made if p.ndim > 1]}, {"params": [p for p in made if p.ndim <= 1]}]


def penalised(made, penalty):
    """The same with the penalty on the first group."""
    first, second = split(made)
    return [{**first, "penalty": penalty}, {**second, "penalty": None}]


def l1_in_the_loss(optimizer, made):
    """A step whose gradient has λ·sign(w) in it, as automatic differentiation of λ Σ|w| gives it."""
    weights = [p for p in made if p.ndim > 1]

    @torch.no_grad()
    def step():
        for weight in weights:
            weight.grad.add_(torch.sign(weight), alpha=STRENGTH)
        optimizer.step()
        for weight in weights:
            weight.grad.sub_(torch.sign(weight), alpha=STRENGTH)

    return step


def softshrink_after(optimizer, made):
    """A step, then the soft threshold by lr·λ that people write by hand."""
    weights = [p for p in made if p.ndim > 1]

    @torch.no_grad()
    def step():
        optimizer.step()
        for weight in weights:
            weight.copy_(torch.nn.functional.softshrink(weight, 1e-3 * STRENGTH))

    return step


def prune_optimizer_step(made, kind, **options):
    """The step of torchao's PruneOptimizer around an optimiser of torch; None where it cannot be had."""
    try:
        from torchao.prototype.pat.optim import PruneOptimizer  # noqa: PLC0415

        first, second = split(made)
        base = kind([{**first, "prox_type": "ProxLasso", "group_type": "ElemGrouper"}, second], **options)
        return PruneOptimizer(base, reg_lambda=STRENGTH).step
    except (ImportError, TypeError, ValueError, KeyError) as error:
        print(f"torchao's PruneOptimizer is left out: {error}")
        return None


def peers(made):
    """Steps of other packages, where they are installed."""
    found = {}
    pruning = prune_optimizer_step(made, torch.optim.Adam, fused=True)
    if pruning is not None:
        found["Adam + torchao PruneOptimizer"] = pruning
    try:
        from pytorch_optimizer import FTRL  # noqa: PLC0415

        found["FTRL of pytorch_optimizer"] = FTRL(made, lambda_1=STRENGTH).step
    except ImportError as error:
        print(f"pytorch_optimizer's FTRL is left out: {error}")
    return found


def families(made):
    """Base steps and what is measured against each: name → (step, class of the target)."""
    sgd = {"lr": 1e-3, "momentum": 0.9, "fused": True}
    adam = {"lr": 1e-3, "fused": True}
    yield (
        "SGD with momentum, fused",
        torch.optim.SGD(split(made), **sgd).step,
        {
            "ProxSGD, λ = 0": (ProxSGD(penalised(made, L1(0.0)), **sgd).step, None),
            "ProxSGD, L1": (ProxSGD(penalised(made, L1(STRENGTH)), **sgd).step, "element-wise"),
            "ProxSGD, elastic net": (ProxSGD(penalised(made, ElasticNet(STRENGTH)), **sgd).step, "element-wise"),
            "ProxSGD, group L1 on rows and filters": (ProxSGD(penalised(made, GroupL1(STRENGTH)), **sgd).step, "group"),
        },
    )
    yield (
        "Adam, fused",
        torch.optim.Adam(split(made), **adam).step,
        {
            "ProxAdam, λ = 0": (ProxAdam(penalised(made, L1(0.0)), **adam).step, None),
            "ProxAdam, L1": (ProxAdam(penalised(made, L1(STRENGTH)), **adam).step, "element-wise"),
            "ProxAdam, elastic net": (ProxAdam(penalised(made, ElasticNet(STRENGTH)), **adam).step, "element-wise"),
            **{
                f"ProxAdam, {penalty}{COMPILED}": (
                    torch.compile(ProxAdam(penalised(made, kind(STRENGTH)), **adam).step),
                    "element-wise",
                )
                for penalty, kind in (("L1", L1), ("elastic net", ElasticNet))
            },
            "ProxAdam, group L1 on rows and filters": (
                ProxAdam(penalised(made, GroupL1(STRENGTH)), **adam).step,
                "group",
            ),
            "L1 in the loss, Adam fused": (l1_in_the_loss(torch.optim.Adam(split(made), **adam), made), None),
            "softshrink by lr·λ after Adam fused": (
                softshrink_after(torch.optim.Adam(split(made), **adam), made),
                None,
            ),
            "Adam, for-loop": (torch.optim.Adam(split(made), lr=1e-3, foreach=False).step, None),
            **{name: (step, None) for name, step in peers(made).items()},
        },
    )


def seconds(function):
    """Wall time of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def peak(step, made):
    """Bytes that one step holds at most beyond what was there."""
    present = [tensor for parameter in made for tensor in (parameter, parameter.grad)]
    optimizer = getattr(step, "__self__", None)
    if optimizer is not None:
        present += [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    with PeakMemory(present) as memory:
        step()
    return memory.peak


def rows(made, repeats):
    """A row for each step: its time, the ratio to its base, its memory in units of the parameters' own."""
    size = sum(parameter.nbytes for parameter in made)
    largest = max(parameter.nbytes for parameter in made)
    for base_name, base, others in families(made):
        steps = {base_name: base, **{name: step for name, (step, _) in others.items()}}
        for step in steps.values():
            for _ in range(3):
                step()  # makes the state, and compiles
        times = {name: [] for name in steps}
        order = list(steps)
        shuffled = random.Random(0)
        for _ in range(repeats):
            shuffled.shuffle(order)  # a step after one that fills the caches, or takes gigabytes, is slower
            for name in order:
                times[name].append(seconds(steps[name]))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, step in steps.items():
            kind = others[name][1] if name in others else None
            memory = "" if name.endswith(COMPILED) else f"{peak(step, made) / largest:.2f}"
            yield base_name, name, medians[name], medians[name] / medians[base_name], memory, kind
        print(f"  {base_name}: {len(steps)} steps of {size / 1e6:.0f} MB measured", flush=True)


def table(threads, repeats, scale):
    """The report, as Markdown."""
    torch.set_num_threads(threads)
    torch._dynamo.config.recompile_limit = 64  # several optimisers share the code in this process
    lines = [
        "# Time and memory of a step",
        "",
        f"A whole step, prox included, float32, {threads} thread(s), torch {torch.__version__}, {platform.machine()}. "
        f"Medians of {repeats} repeats in one process, each in another order. *Beyond* is what the penalty adds to the "
        "base step, in units of the base step. Memory is the peak of what a step allocates, in units of the largest "
        "parameter.",
    ]
    for model, shapes in MODELS.items():
        made = parameters([tuple(max(1, n // scale) for n in shape) for shape in shapes()])
        count = sum(parameter.numel() for parameter in made)
        print(f"{model}: {count / 1e6:.0f} million parameters", flush=True)
        lines += [
            "",
            f"## {model}, {count / 1e6:.0f} million parameters in {len(made)} tensors",
            "",
            "| step | ms | ratio to its base | beyond | target for it | memory |",
            "|---|---|---|---|---|---|",
        ]
        for base_name, name, median, ratio, memory, kind in rows(made, repeats):
            if name == base_name:
                lines.append(f"| **{name}** | {1e3 * median:.1f} | 1 | | | {memory} |")
                continue
            target = f"{TARGETS[kind]:g} ({'met' if ratio - 1 <= TARGETS[kind] else 'missed'})" if kind else ""
            lines.append(f"| {name} | {1e3 * median:.1f} | {ratio:.2f} | {ratio - 1:.2f} | {target} | {memory} |")
        del made
    lines += [
        "",
        "The target is for the prox alone, in units of the fused base step: 1.2 where the penalty is a sum over "
        "coordinates, 3 for groups in Adam's metric. The fused step reads and writes each of its four arrays once and "
        "does all arithmetic in registers; the prox in Adam's metric has to read √v again, and eager PyTorch passes "
        "over each block of it some eight times, in the cache. *Compiled* is "
        "`torch.compile(optimizer.step)`: the optimizer's own step and the prox become one pass. What a compiled "
        "step allocates, and the time of compiling it once, are not counted.",
        "",
        "Made by `make bench-step-time` (`python benchmarks/step_time.py --output docs/benchmarks/step-time.md`).",
    ]
    return "\n".join(lines) + "\n"


def main():
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="shapes smaller by 8 in each dimension, three repeats")
    arguments = parser.parse_args()
    text = table(arguments.threads, 3 if arguments.quick else 7, 8 if arguments.quick else 1)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
