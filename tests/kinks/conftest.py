"""What several files of tests share can be imported by its name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from penalised import network

__all__ = ["network"]
