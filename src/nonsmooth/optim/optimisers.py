"""The old name of `nonsmooth.optim.optimizers`, for one version: optimizers that were pickled whole load by it."""

from nonsmooth.optim.optimizers import ProxAdagrad as ProxAdagrad
from nonsmooth.optim.optimizers import ProxAdam as ProxAdam
from nonsmooth.optim.optimizers import ProxAdamW as ProxAdamW
from nonsmooth.optim.optimizers import ProxNAdam as ProxNAdam
from nonsmooth.optim.optimizers import ProxRMSprop as ProxRMSprop
from nonsmooth.optim.optimizers import ProxSGD as ProxSGD
