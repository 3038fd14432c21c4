"""The old place of `nonsmooth.claims.framework.registry`, for one version."""

import warnings

from nonsmooth.claims.framework.registry import *  # noqa: F403

warnings.warn(
    "nonsmooth.claims.registry is now in nonsmooth.claims.framework; import public names from nonsmooth.claims",
    DeprecationWarning,
    stacklevel=2,
)
