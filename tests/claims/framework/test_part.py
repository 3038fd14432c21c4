"""Parts of a plan: which cells meet a condition, and what is said when none does."""

import pytest

from nonsmooth.claims.framework.claim import Settings
from nonsmooth.claims.framework.part import planned_cells, select_cells
from nonsmooth.lab import Cell

PLANS = {
    "one": [
        Cell("one", {"link": link, "step": step}, seed) for link in "ab" for step in (1e-3, 1.0) for seed in (0, 1)
    ],
    "two": [Cell("two", {"widths": (1, 2), "smooth": True})],
}


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ([], 9),
        (["link=a"], 4),
        (["link=a", "link=b"], 8),
        (["link=a", "step=0.001"], 2),
        (["step=1"], 4),
        (["seed=1"], 4),
        (["widths=1,2"], 1),
        (["smooth=true"], 1),
    ],
)
def test_conditions_select_cells(conditions, count):
    assert len(select_cells(PLANS, conditions)) == count


@pytest.mark.parametrize(
    ("condition", "said"), [("links=a", ["links", "link", "seed", "step"]), ("link=c", ["link=c", "a, b"])]
)
def test_conditions_that_nothing_meets_are_refused(condition, said):
    with pytest.raises(ValueError, match="no cell has") as refusal:
        select_cells(PLANS, [condition])
    assert all(word in str(refusal.value) for word in said)


def test_settings_restrict_a_real_plan():
    whole = planned_cells(["capture", "rate"], Settings())
    part = planned_cells(["capture", "rate"], Settings(part=("link=relu", "test=box")))
    assert [cell.parameters["link"] for cell in part["capture"]] == ["relu"]
    assert part["rate"] == []
    assert set(part["capture"]) < set(whole["capture"])
