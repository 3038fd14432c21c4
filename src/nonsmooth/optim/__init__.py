"""Proximal optimisers under which λ means one number, exact zeros, and certificates."""

from nonsmooth.optim.optimisers import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD

__all__ = ["ProxAdagrad", "ProxAdam", "ProxAdamW", "ProxNAdam", "ProxRMSprop", "ProxSGD"]
