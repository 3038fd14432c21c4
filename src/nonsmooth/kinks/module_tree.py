"""What can be said of a module without running it: the classes of its submodules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn import functional

from nonsmooth.kinks.findings import Operation, Scan
from nonsmooth.kinks.table.operations import POOLING
from nonsmooth.kinks.table.rules import jump, kink, once, softplus_class, unknown
from nonsmooth.kinks.table.smoothness import SMOOTH, Classification, Smoothness

ModuleRule = Classification | Callable[[Any], Classification]

HINGE = kink("a hinge")


def _elu(module: nn.ELU) -> Classification:
    return once("slopes agree at 0") if math.isclose(module.alpha, 1) else kink(f"at 0, α = {module.alpha:g}")


def _threshold(module: nn.Threshold) -> Classification:
    return kink("at its threshold") if module.threshold == module.value else jump("at its threshold")


def _norm_order(module: Any) -> Classification:
    return kink("where the vector is 0, or an entry")


def _recurrent(module: Any) -> Classification:
    return kink("ReLU cells, at 0") if "relu" in str(module.nonlinearity).lower() else SMOOTH


def _encoder(module: Any) -> Classification:
    """A transformer layer calls its activation as a function, or as a module that stands in the tree itself."""
    activation = module.activation
    if isinstance(activation, nn.Module) or activation is functional.gelu:
        return SMOOTH
    return kink("its feed-forward part, at 0") if activation is functional.relu else unknown("its activation")


MODULES: dict[type[nn.Module], ModuleRule] = {
    nn.ReLU: kink("at 0"),
    nn.ReLU6: kink("at 0 and 6"),
    nn.Hardtanh: kink("at both bounds"),
    nn.Hardsigmoid: kink("at -3 and 3"),
    nn.Hardswish: kink("at -3 and 3"),
    nn.LeakyReLU: lambda m: SMOOTH if m.negative_slope == 1 else kink(f"at 0, slope {m.negative_slope:g} below"),
    nn.PReLU: kink("at 0, unless the slope is 1"),
    nn.RReLU: kink("at 0"),
    nn.ELU: _elu,
    nn.CELU: once("slopes agree at 0"),
    nn.SELU: kink("at 0 the slope goes from 1.76 to 1.05"),
    nn.Threshold: _threshold,
    nn.Softshrink: kink("at -λ and λ"),
    nn.Hardshrink: jump("at -λ and λ"),
    nn.Softsign: once("at 0"),
    nn.Softplus: lambda m: softplus_class(m.beta, m.threshold),
    **dict.fromkeys(
        (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
         nn.FractionalMaxPool2d, nn.FractionalMaxPool3d), POOLING),
    **dict.fromkeys((nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
                    lambda m: SMOOTH if m.norm_type == 1 else kink("where a window is 0")),
    nn.L1Loss: kink("where the difference is 0"),
    nn.SmoothL1Loss: lambda m: once("where |difference| = β") if m.beta > 0 else kink("β = 0: the absolute value"),
    nn.HuberLoss: once("where |difference| = δ"),
    **dict.fromkeys(
        (nn.HingeEmbeddingLoss, nn.MarginRankingLoss, nn.CosineEmbeddingLoss, nn.TripletMarginLoss,
         nn.TripletMarginWithDistanceLoss, nn.MultiLabelMarginLoss), HINGE),
    nn.MultiMarginLoss: lambda m: once("squared hinges") if m.p == 2 else HINGE,
    nn.GaussianNLLLoss: kink("where the variance reaches its bound"),
    nn.PairwiseDistance: _norm_order,
    nn.CosineSimilarity: kink("where a norm reaches its bound"),
    nn.RNN: _recurrent,
    nn.RNNCell: _recurrent,
    nn.TransformerEncoderLayer: _encoder,
    nn.TransformerDecoderLayer: _encoder,
    nn.EmbeddingBag: lambda m: kink("where the largest entries tie") if m.mode == "max" else SMOOTH,
    nn.Embedding: lambda m: SMOOTH if m.max_norm is None else kink("where a norm reaches its limit"),
}  # fmt: skip

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def scan_tree(root: nn.Module, known: Mapping[str, Smoothness]) -> Scan:
    """Scan the classes of the submodules."""
    operations, smooth, unseen = [], dict[str, int](), list[str]()
    for path, module in root.named_modules():
        name = type(module).__name__
        classification = _classify(module, known)
        if classification is None:
            unseen.append(path or name)
        elif classification.smoothness is Smoothness.SMOOTH:
            if not isinstance(module, CONTAINERS):
                smooth[name] = smooth.get(name, 0) + 1
        else:
            operations.append(Operation(name, classification.smoothness, classification.reason, module=path))
    notes = ["Without example inputs only the classes of the modules were read, not which parameters reach them."]
    if unseen:
        shown = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        notes.append(f"Functional calls were not seen in the forward pass of: {shown}. Give inputs to see them.")
    names = tuple(name for name, _ in root.named_parameters())
    return Scan(tuple(operations), tuple(smooth.items()), names, "module tree", tuple(notes))


def _classify(module: nn.Module, known: Mapping[str, Smoothness]) -> Classification | None:
    """The classification of a module's own forward pass; None if it calls functions that the tree does not show."""
    kind = type(module)
    if kind.__name__ in known:
        return Classification(known[kind.__name__], "as stated by the caller")
    if kind in MODULES:
        rule = MODULES[kind]
        return rule(module) if callable(rule) else rule
    if kind.__module__.startswith("torch.nn.modules."):
        return SMOOTH  # all others there are smooth, or only call their submodules
    if next(module.children(), None) is None:
        return unknown("a module of another package: its forward pass was not run")
    return None
