"""Weights of samples: the loss is their weighted mean, Σsᵢℓᵢ/Σsᵢ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_array, check_consistent_length
from torch import Tensor


def checked_weights(sample_weight: Any, targets: NDArray[Any]) -> NDArray[np.float64] | None:
    """Weights as an array, (N,), or None for none.

    Args:
        sample_weight: what `fit` was given.
        targets: y, with N entries or rows.

    Raises:
        ValueError: they are not N finite numbers of at least 0, or all of them are 0.
    """
    if sample_weight is None:
        return None
    weights: NDArray[np.float64] = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.ndim != 1:
        raise ValueError(f"sample_weight has shape {weights.shape}; accepted is ({len(targets)},)")
    check_consistent_length(targets, weights)
    if np.any(weights < 0):
        raise ValueError(f"sample_weight has an entry of {weights.min()}; accepted are numbers of at least 0")
    if not np.any(weights):
        raise ValueError("sample_weight is zero throughout; accepted is at least one number above 0")
    return weights


def present(
    features: NDArray[np.float64], targets: NDArray[Any], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.float64] | None]:
    """The samples of positive weight, and their weights over the mean of these; None where all are the same.

    A sample of weight 0 is so never seen: not by the order of batches, nor by the list of classes.

    Args:
        features: X, (N, features).
        targets: y.
        weights: as `checked_weights` gave them.
    """
    if weights is None:
        return features, targets, None
    kept = weights > 0
    features, targets, weights = features[kept], targets[kept], weights[kept]
    weights = weights / weights.max()  # the sum of large numbers may be infinite
    return features, targets, None if np.all(weights == 1) else weights / weights.mean()


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean along the first axis.

    Args:
        values: (N, …).
        weights: (N,), of mean 1 over all samples; None for 1 throughout.
    """
    return values.mean(0) if weights is None else torch.tensordot(weights, values, 1) / len(weights)
