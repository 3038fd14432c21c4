"""Fabricated evidence that several claims share."""

import math

import pytest

from nonsmooth.claims.kink import dose


@pytest.fixture
def twin_values():
    """Values of the twins in which runs show this much of an effect below 2/L, above it, and on the kink."""

    def values(step_sizes, below=0.0, above=1.0, kink=1.0, starts=20):
        doses = [*dose.EDGES, math.inf]
        row = [[below if d < 1 else kink if math.isinf(d) else above] * starts for d in doses]
        return {
            "step_size": list(step_sizes),
            "width": list(dose.WIDTHS),
            "dose": [[[d] * starts for d in doses] for _ in step_sizes],
            "effect": [[row for _ in step_sizes] for _ in dose.LENGTHS],
        }

    return values
