"""The convex test problems: value, subgradient, minimiser, minimum and constants."""

from nonsmooth.problems.links import Identity, Link, QuadraticRelu, Relu, Softplus
from nonsmooth.problems.losses import Absolute, Huber, Loss, Power, PseudoHuber, Squared
from nonsmooth.problems.problem import Evaluation, Problem
from nonsmooth.problems.regression import Regression, huber_regression, l1_norm, lasso, relu_regression
from nonsmooth.problems.rising_chain import RisingChain
from nonsmooth.problems.rounded_l1 import RoundedL1
from nonsmooth.problems.sum import Sum
from nonsmooth.problems.support_function import SupportFunction
from nonsmooth.problems.worst_case import (
    LargestCoordinate,
    QuadraticChain,
    RoundedLargestCoordinate,
    SlopedLine,
)

__all__ = [
    "Absolute",
    "Evaluation",
    "Huber",
    "Identity",
    "LargestCoordinate",
    "Link",
    "Loss",
    "Power",
    "Problem",
    "PseudoHuber",
    "QuadraticChain",
    "QuadraticRelu",
    "Regression",
    "Relu",
    "RisingChain",
    "RoundedL1",
    "RoundedLargestCoordinate",
    "SlopedLine",
    "Softplus",
    "Squared",
    "Sum",
    "SupportFunction",
    "huber_regression",
    "l1_norm",
    "lasso",
    "relu_regression",
]
