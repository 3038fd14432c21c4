import sys
from pathlib import Path

# Worker processes import the functions of a path by name, from the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent / "importable"))
