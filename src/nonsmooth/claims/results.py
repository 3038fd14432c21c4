"""The old place of `nonsmooth.claims.framework.results`, for one version."""

import warnings

from nonsmooth.claims.framework.results import *  # noqa: F403

warnings.warn(
    "nonsmooth.claims.results is now in nonsmooth.claims.framework; import public names from nonsmooth.claims",
    DeprecationWarning,
    stacklevel=2,
)
