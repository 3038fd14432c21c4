"""The claims of the paper: each is a plan, a measurement, a judgement and figures."""

from nonsmooth.extras import require

require("reproduce", "nonsmooth.claims")
