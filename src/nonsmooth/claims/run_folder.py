"""The old place of `nonsmooth.claims.framework.run_folder`, for one version."""

import warnings

from nonsmooth.claims.framework.run_folder import *  # noqa: F403

warnings.warn(
    "nonsmooth.claims.run_folder is now in nonsmooth.claims.framework; import public names from nonsmooth.claims",
    DeprecationWarning,
    stacklevel=2,
)
