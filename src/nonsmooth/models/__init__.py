"""Networks and activations to study."""

from nonsmooth.deprecation import renamed_names
from nonsmooth.models.activations import ACTIVATIONS, Activation, PiecewiseLinearGELU, SmoothReLU
from nonsmooth.models.scales import match_scales
from nonsmooth.models.vgg import CONFIGURATIONS, INITIALIZATIONS, WEIGHT_LAYERS, vgg

__all__ = [
    "ACTIVATIONS",
    "CONFIGURATIONS",
    "INITIALIZATIONS",
    "WEIGHT_LAYERS",
    "Activation",
    "PiecewiseLinearGELU",
    "SmoothReLU",
    "match_scales",
    "vgg",
]

__getattr__ = renamed_names(__name__, INITIALISATIONS="INITIALIZATIONS")
