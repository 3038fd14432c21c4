"""What the page of `sparsity_record.py` says of its runs and methods, before and after the numbers."""

from __future__ import annotations

from collections.abc import Mapping

from sparsity_record_methods import FOUND, METHODS, ROUNDED
from sparsity_record_networks import NETWORKS
from sparsity_record_run import Scale


def introduction(scales: Mapping[str, Scale]) -> list[str]:
    """What was done, and how the choices were made."""
    found = [method.label for method in METHODS.values() if method.arrives == FOUND]
    rounded = [method.label for key, method in METHODS.items() if method.arrives == ROUNDED and key != "dense"]
    return [
        "# The record: accuracy at 80 to 99 % zeros",
        "",
        "Test accuracy on CIFAR-10 at given shares of zeros among the weights of convolutions and linear layers, at "
        "equal epochs for all methods, pruning and fine-tuning included. Each number is a mean over seeds with its "
        "95 % t interval; a cell is blank where runs are missing.",
        "",
        *(f"- {setup(scale, name)}" for name, scale in scales.items()),
        "",
        "The step size falls to zero as a cosine; there is no weight decay but where a method lives on it. The same "
        "seed means the same starting weights and batches under every method. Accuracies are those of the network "
        "after the last step. Weights are kept in float32.",
        "",
        "**Choices** are made on images held out from the training set, with seeds of their own. Every method may have "
        "the same number of runs for them. Methods that are told the level spend these on settings, level by level. "
        f"Those that are rounded at the end ({'; '.join(rounded)}) keep the largest weights of all layers together, "
        "exactly as many as the level says, which is to their favour: each run is judged at all levels, and the best "
        f"is taken for each. For those whose λ has to be found ({'; '.join(found)}), half of the runs try settings and "
        "a few λ, and half close in on each level with the settings that promise most there; of the runs within a "
        "point of the level (at most a fifth of the weights left) the best on validation is taken, and where there is "
        "none the nearest. A number that was reached elsewhere than within that distance has the share that was "
        "reached beside it. The chosen settings are then run with other seeds; only these runs look at test images, "
        "and nothing is chosen from them.",
        "",
    ]


def setup(scale: Scale, name: str) -> str:
    """A scale in words."""
    optimizer = {"adam": "Adam", "sgd": "SGD with momentum 0.9"}[scale.family]
    networks = " and ".join(NETWORKS[network].label for network in scale.networks)
    choosing, reporting = (", ".join(map(str, seeds)) for seeds in (scale.tuning_seeds, scale.report_seeds))
    return (
        f"Scale `{name}`: {networks}; {scale.train:,} training images, "
        f"{'flipped and shifted at random' if scale.augment else 'as they are'}, {scale.epochs} epochs of batches of "
        f"{scale.batch} ({scale.steps:,} steps) in {scale.precision}; {optimizer} or what is built on it; for each "
        f"method {scale.trials} runs per level and seed ({choosing}), judged on {scale.validation:,} "
        f"images, to choose; then the seeds {reporting} and {scale.test:,} test images."
    )


METHOD_NOTES = """## The methods

- *SparsityTarget*: L1 under a steady optimizer, λ moved by the target until it lets go at `release` of the steps; then
  the support is frozen and λ is 0.
- *λ alone*: the same without a target; λ stays, and so does its shrinkage.
- *Gradual magnitude pruning* (Zhu & Gupta 2017): the share of zeros rises as a cubic from `start` to `end` of the
  steps, masks of the smallest weights of all layers together are found anew each `every` of the steps and held.
- *Rounded dense*: the dense network, its small weights set to zero at the end, no fine-tuning.
- *STR* (Kusupati et al. 2020): w ← sign(w)·max(|w| - sigmoid(s), 0) with one s for each layer, which starts at
  `threshold` and is raised by weight decay, here `strength`. SGD with momentum trains s, as in the paper, whatever
  trains the weights. The paper's code starts s at -3200, takes 500,000 steps and has one decay for s and weights; so
  few steps need a start nearer to zero, and the weights have no decay here, as under the other methods.
- *spred* (Ziyin & Wang 2023): w = u⊙v with weight decay `strength` on both factors, starting from the weights that the
  others start from, with v = `start`, or |u| = |v| where that is 0. No weight becomes exactly zero, hence the rounding;
  the paper's fine-tuning after it is not done. The decay is in the gradient, so Adam divides it as it divides that.
- *torchao's PruneOptimizer* (prototype.pat): its ProxLasso on single weights, or its GlobalMinSparsityConstraint, which
  is told a share and follows a cubic. From `healing` of the steps on the zeros are frozen and the rest is trained on.

A step size is `rate` times the family's own (0.001 for Adam, 0.03 for SGD).
"""
