"""Networks and activations to study."""

from nonsmooth.deprecation import renamed_names
from nonsmooth.models.activations import ACTIVATIONS, Activation, PiecewiseLinearGELU, SmoothReLU
from nonsmooth.models.scales import match_scales
from nonsmooth.models.stacked import cross_entropies, draw_perceptrons, match_perceptrons, preactivations
from nonsmooth.models.vgg import CONFIGURATIONS, INITIALIZATIONS, WEIGHT_LAYERS, vgg

__all__ = [
    "ACTIVATIONS",
    "CONFIGURATIONS",
    "INITIALIZATIONS",
    "WEIGHT_LAYERS",
    "Activation",
    "PiecewiseLinearGELU",
    "SmoothReLU",
    "cross_entropies",
    "draw_perceptrons",
    "match_perceptrons",
    "match_scales",
    "preactivations",
    "vgg",
]

__getattr__ = renamed_names(__name__, INITIALISATIONS="INITIALIZATIONS")
