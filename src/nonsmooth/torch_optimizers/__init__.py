"""What torch's optimizers make of a gradient: their metrics, their answers to steady and alternating gradients."""

from nonsmooth.torch_optimizers.metric import AdaptiveStep, Block, UnitStep, number
from nonsmooth.torch_optimizers.rules import Group, Rule, State, rule_of

__all__ = ["AdaptiveStep", "Block", "Group", "Rule", "State", "UnitStep", "number", "rule_of"]
