"""Networks and activations to study."""

from nonsmooth.models.activations import ACTIVATIONS, Activation, PiecewiseLinearGELU, SmoothReLU
from nonsmooth.models.scales import match_scales
from nonsmooth.models.vgg import CONFIGURATIONS, INITIALISATIONS, WEIGHT_LAYERS, vgg

__all__ = [
    "ACTIVATIONS",
    "CONFIGURATIONS",
    "INITIALISATIONS",
    "WEIGHT_LAYERS",
    "Activation",
    "PiecewiseLinearGELU",
    "SmoothReLU",
    "match_scales",
    "vgg",
]
