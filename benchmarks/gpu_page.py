"""The page of `gpu_step.py`: what is known without a device, and what was measured on one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpu_cases import families
from gpu_training import AIM, NETWORKS

COPY = "torch's copy"
"""What bandwidths are compared with."""

BANDWIDTH_AIM = 0.8
"""Share of the bandwidth of torch's copy."""

MODELS = {"VGG16": (138, 32), "GPT-2 small": (124, 148)}
"""Millions of parameters, and tensors, of the models in `step_time.py`."""

TRAFFIC = {
    "ProxSGD, L1, fused=True": (1, 3.0, 2.0),
    "SteadySGD, L1, fused=True": (1, 4.0, 3.0),
    "ProxAdam, L1, fused=True": (1, 4.0, 3.0),
    "SteadyAdam, L1, fused=True": (1, 5.0, 4.0),
    "ProxSGD, L1, fused=None": (1, 1.0, 1.0),
    "ProxSGD, GroupL1, fused=None": (1, 1.0, 1.0),
    "SteadySGD, L1, fused=None": (2, 3.25, 2.25),
    "ProxAdam, L1, fused=None": (2, 3.25, 1.25),
    "ProxAdam, GroupL1, fused=None": (2, 3.25, 1.25),
    "SteadyAdam, L1, fused=None": (2, 4.25, 2.25),
}
"""Launches of a group, and tensors of the parameters' size that they read and write; counted in a test."""

INTRODUCTION = """# A step on a GPU

What a penalty costs where sparse networks are trained: whole steps of optimizers on the shapes of VGG16 and GPT-2 small
in float32, against torch's own fused steps; the kernels' bandwidth against that of a copy; whole training steps; and
the memory of a step.

`fused=None` is torch's own step for a list of tensors, then one launch for the prox of a whole group. `fused=True`
takes torch's step and a separable prox in one pass, for SGD, Adam and AdamW; with groups it is torch's fused step, then
one launch for each kind of tile.

Time is that between two events on the device around a step. All steps of a family take turns in one process, each after
256 MB were written, so that no cache holds its tensors, and while the device is still busy, since Python is ahead of
it in training; medians. *Host* is how long the call of `step()` keeps Python
(see [the host's side of a step](host-step.md)). *Ratio* is over the family's first step.
*Over its own* is over torch's step of the same implementation. *Memory* is the peak beyond what was there before the
step, in units of all parameters.

## Launches and tensors moved

Torch's fused step of SGD with momentum moves five tensors of the parameters' size (w, its gradient and its momentum
are read, w and momentum written), that of Adam seven. What ours add is counted in a test, with Triton's interpreter; a
mask of one byte a weight is a quarter of a tensor.

| step | launches for a group | tensors read | written | instead of torch's | beside torch's |
|---|---|---|---|---|---|
"""


def _traffic() -> Iterable[str]:
    for name, (launches, read, written) in TRAFFIC.items():
        torchs, moved = 5 if "SGD" in name else 7, read + written
        whole = f"{moved:g} for {torchs}" if "fused=True" in name else ""
        beside = "" if whole else f"{moved:g} and {torchs}"
        yield f"| {name} | {launches} | {read:g} | {written:g} | {whole} | {beside} |"


def _of(found: Mapping[str, Any], **wanted: str) -> dict[str, dict[str, Any]]:
    """The records of a table, by the name of the step."""
    records = found.get("records", [])
    return {each["step"]: each for each in records if all(each.get(key) == value for key, value in wanted.items())}


def _number(record: Mapping[str, Any] | None, key: str, form: str) -> str:
    return "" if record is None or record.get(key) is None else format(record[key], form)


def _verdict(ratio: float | None, aim: float | None, *, at_least: bool = False) -> str:
    """An aim, and whether it is met."""
    if aim is None:
        return ""
    sign = "≥" if at_least else "≤"
    if ratio is None:
        return f"{sign} {aim:g}"
    return f"{sign} {aim:g} ({'met' if (ratio >= aim if at_least else ratio <= aim) else 'missed'})"


def _steps(found: Mapping[str, Any], model: str) -> Iterable[str]:
    yield "| step | ms | ratio | aim | over its own | host, ms | memory |"
    yield "|---|---|---|---|---|---|---|"
    for family, listed in families("inductor").items():
        if listed[-1].compiled and model != "VGG16":
            continue
        records = _of(found, section="steps", model=model, family=family)
        for place, case in enumerate(listed):
            if case.compiled != listed[-1].compiled:
                continue
            record = records.get(case.name)
            name = f"**{case.name}**" if place == 0 else case.name
            cells = [_number(record, "ms", ".2f"), _number(record, "ratio", ".2f")]
            cells += [_verdict(None if record is None else record["ratio"], case.aim)]
            cells += [_number(record, "over_own", ".2f"), _number(record, "host_ms", ".2f")]
            cells += [_number(record, "memory", ".2f")]
            yield f"| {name} | " + " | ".join(cells) + " |"


def _kernels(found: Mapping[str, Any]) -> Iterable[str]:
    yield "| kernel | tensors moved | ms | GB/s | share of the copy's | aim |"
    yield "|---|---|---|---|---|---|"
    for record in _of(found, section="kernels").values():
        share = record["share"]
        aim = "" if record["step"] == COPY else _verdict(share, BANDWIDTH_AIM, at_least=True)
        cells = [f"{record['passes']:g}", f"{record['ms']:.2f}", f"{record['rate']:.0f}"]
        yield f"| {record['step']} | " + " | ".join([*cells, _number(record, "share", ".2f"), aim]) + " |"


def _training(found: Mapping[str, Any]) -> Iterable[str]:
    yield "| network | optimizer | ms | over torch's | aim |"
    yield "|---|---|---|---|---|"
    for network in NETWORKS:
        records = _of(found, section="training", model=network)
        for name in ("SGD", "ProxSGD", "SteadySGD", "Adam", "ProxAdam", "SteadyAdam"):
            record = records.get(name)
            aim = _verdict(None if record is None else record["ratio"], AIM if name == "SteadyAdam" else None)
            cells = [_number(record, "ms", ".2f"), _number(record, "ratio", ".3f"), aim]
            yield f"| {network} | {name} | " + " | ".join(cells) + " |"


def page(found: Mapping[str, Any] | None = None) -> str:
    """The page, as Markdown; figures that there are not yet are left blank.

    Args:
        found: `torch`, `device` and `records`, as `gpu_step.py` writes them; None before it has run.
    """
    lines = [INTRODUCTION + "\n".join(_traffic()), ""]
    if found is None:
        lines += ["Nothing has been measured on a device for this page yet: the figures below are blank.", ""]
        found = {}
    else:
        lines += [f"Measured on {found['device']}, torch {found['torch']}, with Triton {found['triton']}.", ""]
    for model, (millions, tensors) in MODELS.items():
        lines += [f"## {model}, {millions} million parameters in {tensors} tensors", "", *_steps(found, model), ""]
    lines += [
        "## Bandwidth of the kernels",
        "",
        "On the tensors of VGG16: the bytes that a kernel must move, over its time. Groups are rows and filters, of "
        "the matrices and filters alone.",
        "",
        *_kernels(found),
        "",
        "## Training steps",
        "",
        "Forward, backward and step, autocast to bfloat16, `fused=True`: ResNet-18 for images of 32×32 pixels, 256 of "
        "them, channels last; a GPT of 8 blocks of width 512, 32 texts of 256 tokens. Random data, L1 on matrices and "
        "filters.",
        "",
        *_training(found),
        "",
    ]
    if found.get("left_out"):
        lines += ["Left out: " + "; ".join(found["left_out"]) + ".", ""]
    lines += ["Made by `make bench-gpu` (`python benchmarks/gpu_step.py --output docs/benchmarks/gpu.md`)."]
    return "\n".join(lines) + "\n"
