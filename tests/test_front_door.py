"""What a user types first: names at the top, loaded when they are used, and what is missing is said in a line."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib import import_module, util
from pathlib import Path

import pytest

import nonsmooth
from nonsmooth import extras

pytestmark = pytest.mark.processes

SOURCE = Path(nonsmooth.__file__)


def in_a_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout


def imported_for_type_checkers():
    """Name and module of each import that only type checkers and editors see."""
    (block,) = (node for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    return {alias.asname: (statement.module, alias.name) for statement in block.body for alias in statement.names}


def test_importing_the_package_loads_no_other_package():
    code = "import sys; before = set(sys.modules); import nonsmooth, json; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(in_a_new_process(code))}
    assert loaded.isdisjoint({"torch", "numpy", "scipy", "sklearn", "typer", "rich", "jinja2", "plotly", "pyarrow"})


@pytest.mark.parametrize("name", sorted(nonsmooth.__all__))
def test_a_name_at_the_top_is_the_one_of_its_subpackage(name):
    value = getattr(nonsmooth, name)
    if name != "__version__":
        home = import_module(".".join(value.__module__.split(".")[:2]))
        assert getattr(home, name) is value


def test_type_checkers_see_what_there_is_at_run_time():
    seen = imported_for_type_checkers()
    assert set(seen) == set(nonsmooth._HOMES) | set(nonsmooth._SUBPACKAGES)
    for name, (module, original) in seen.items():
        assert original == name
        assert module == "nonsmooth" or module.startswith(nonsmooth._HOMES[name])


@pytest.mark.skipif(util.find_spec("sklearn") is None, reason="needs the extra sklearn")
def test_completion_lists_names_and_subpackages():
    listed = dir(nonsmooth)
    assert {"ProxAdam", "L1", "ProxRegressor", "optim", "kinks"} <= set(listed)
    assert all(hasattr(nonsmooth, name) for name in listed)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'ProxAdan'"):
        nonsmooth.ProxAdan  # noqa: B018
    with pytest.raises(ImportError):
        from nonsmooth import ProxAdan  # noqa: F401, PLC0415


def test_all_names_can_be_imported_with_a_star():
    assert in_a_new_process("from nonsmooth import *; print(ProxAdam.__name__, L1(0.1).strength)") == "ProxAdam 0.1\n"


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("import nonsmooth.estimators", "sklearn"),
        ("import nonsmooth as ns; ns.ProxRegressor", "sklearn"),
        ("import nonsmooth.lab", "reproduce"),
        ("from nonsmooth.select import sparsity_path", "reproduce"),
        ("import nonsmooth as ns; ns.stability_selection", "reproduce"),
        ("import nonsmooth.claims.framework.registry", "reproduce"),
        ("import nonsmooth.report", "reproduce"),
        ("import nonsmooth.data; nonsmooth.data.load_images('digits')", "sklearn"),
        ("from nonsmooth.dynamics import Diminishing; Diminishing(1.0, 2.0).total", "sklearn"),
        ("import nonsmooth.cli", "reproduce"),
    ],
)
def test_what_lacks_its_extra_says_in_one_line_which_to_install(code, extra):
    hide = "import sys; sys.modules.update(dict.fromkeys(['scipy', 'sklearn', 'typer'])); "
    done = subprocess.run([sys.executable, "-c", hide + code], capture_output=True, check=False, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert last.endswith(f'pip install "nonsmooth[{extra}]"')


def test_refitting_and_the_rules_need_no_extra():
    code = "from nonsmooth.select import refit; from nonsmooth.select.rules import choose; print(*sys.modules)"
    hide = "import sys; sys.modules.update(dict.fromkeys(['scipy', 'sklearn', 'pyarrow', 'plotly'])); "
    assert "nonsmooth.lab" not in in_a_new_process(hide + code).split()


def test_the_program_without_its_extra_says_so_and_nothing_else():
    code = "import sys; sys.modules['typer'] = None; from nonsmooth.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r'The command line needs [a-z, ]*typer.*: pip install "nonsmooth\[reproduce\]"\n', done.stderr)


def test_the_program_runs_as_a_module():
    pytest.importorskip("typer")
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "nonsmooth", "--version"]
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    assert done.stdout == f"nonsmooth {nonsmooth.__version__}\n"


def test_an_extra_that_is_installed_is_not_asked_for(monkeypatch):
    monkeypatch.setitem(extras.MODULES, "sklearn", ("json",))
    extras.require("sklearn", "This test")
