"""What parts of the package need beyond torch and NumPy, and the line that says how to get it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

MODULES = {
    "sklearn": ("scipy", "sklearn"),
    "reproduce": ("scipy", "sklearn", "pyarrow", "filelock", "threadpoolctl", "typer", "rich", "jinja2", "plotly"),
}
"""The modules that each extra of pyproject.toml brings."""


def install_command(extra: str) -> str:
    """What to type to get an extra."""
    return f'pip install "nonsmooth[{extra}]"'


def require(extra: str, user: str, modules: Sequence[str] | None = None) -> None:
    """Check that an extra is installed, without importing it.

    Args:
        extra: its name in pyproject.toml.
        user: what needs it, as the message calls it.
        modules: those of the extra that are needed; None for all.

    Raises:
        ImportError: a module of it is missing; the message says what to install.
    """
    missing = [name for name in (MODULES[extra] if modules is None else modules) if not _is_installed(name)]
    if missing:
        message = f"{user} needs {', '.join(missing)}: {install_command(extra)}"
        raise ImportError(message, name=missing[0])


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # None or a stand-in is in its place
        return False
