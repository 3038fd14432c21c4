import pytest

from nonsmooth.claims.framework.find_parts import find_part, find_parts
from nonsmooth.lab import Cell, Record

RECORDS = [Record(Cell("claim", {"part": part, "size": size}), {}) for part, size in (("a", 1), ("a", 2), ("b", 1))]


def test_parts_are_found_by_their_parameters():
    assert find_parts(RECORDS, "a") == RECORDS[:2]
    assert find_part(RECORDS, "a", size=2) is RECORDS[1]
    assert find_parts(RECORDS, "c") == []


@pytest.mark.parametrize(("part", "count"), [("a", 2), ("c", 0)])
def test_one_record_is_asked_for(part, count):
    with pytest.raises(ValueError, match=f"{count} records have part='{part}'"):
        find_part(RECORDS, part)
