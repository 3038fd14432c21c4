"""Networks and activations to study."""

from nonsmooth.deprecation import renamed_names
from nonsmooth.models.activations import ACTIVATIONS, Activation, PiecewiseLinearGELU, SmoothReLU
from nonsmooth.models.vgg import CONFIGURATIONS, INITIALIZATIONS, WEIGHT_LAYERS, vgg

__all__ = [
    "ACTIVATIONS",
    "CONFIGURATIONS",
    "INITIALIZATIONS",
    "WEIGHT_LAYERS",
    "Activation",
    "PiecewiseLinearGELU",
    "SmoothReLU",
    "vgg",
]

__getattr__ = renamed_names(__name__, INITIALISATIONS="INITIALIZATIONS")
