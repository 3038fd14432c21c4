import sys
from pathlib import Path

import pytest

# Worker processes import measurements by name, from the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent / "importable"))


@pytest.fixture
def toy_log(tmp_path, monkeypatch):
    """A function that tells which cells were started, in order; also in other processes."""
    path = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(path))

    def started():
        if not path.exists():
            return []
        lines = [line.split() for line in path.read_text().splitlines()]
        return [key for word, key, _process in lines if word == "start"]

    return started
