"""Proximal optimisers under which λ means one number, exact zeros, and certificates."""

from nonsmooth.optim.attach import attach
from nonsmooth.optim.averages import SparseAverage, averaged
from nonsmooth.optim.certificate import Certificate, certify
from nonsmooth.optim.dual_averaging import RDA
from nonsmooth.optim.embeddings.following import follow
from nonsmooth.optim.embeddings.missed_steps import catch_up
from nonsmooth.optim.extended_dual_averaging import XRDA
from nonsmooth.optim.lasso_gap import lasso_gap
from nonsmooth.optim.optimizers import ProxAdagrad, ProxAdam, ProxAdamW, ProxNAdam, ProxRMSprop, ProxSGD
from nonsmooth.optim.parameter_groups import penalize
from nonsmooth.optim.prox_taken import takes_prox
from nonsmooth.optim.sparsity_target import SparsityTarget
from nonsmooth.optim.steady import SteadyAdagrad, SteadyAdam, SteadyAdamW, SteadyNAdam, SteadyRMSprop, SteadySGD
from nonsmooth.optim.tensor_certificate import TensorCertificate

__all__ = [
    "RDA",
    "XRDA",
    "Certificate",
    "ProxAdagrad",
    "ProxAdam",
    "ProxAdamW",
    "ProxNAdam",
    "ProxRMSprop",
    "ProxSGD",
    "SparseAverage",
    "SparsityTarget",
    "SteadyAdagrad",
    "SteadyAdam",
    "SteadyAdamW",
    "SteadyNAdam",
    "SteadyRMSprop",
    "SteadySGD",
    "TensorCertificate",
    "attach",
    "averaged",
    "catch_up",
    "certify",
    "follow",
    "lasso_gap",
    "penalize",
    "takes_prox",
]
