"""The old place of `nonsmooth.claims.framework.checking`, for one version."""

import warnings

from nonsmooth.claims.framework.checking import *  # noqa: F403

warnings.warn(
    "nonsmooth.claims.checking is now in nonsmooth.claims.framework; import public names from nonsmooth.claims",
    DeprecationWarning,
    stacklevel=2,
)
