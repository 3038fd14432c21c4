"""The old name of `nonsmooth.optim.optimizers`, for one version: optimizers that were pickled whole load by it."""

from nonsmooth.optim.optimizers import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD

__all__ = ["ProxAdagrad", "ProxAdam", "ProxAdamW", "ProxNAdam", "ProxRMSprop", "ProxSGD"]
