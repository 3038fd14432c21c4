"""The commands on streams of every kind: encodings, closed, full, without a reader; and with hostile text."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

FULL = "/dev/full"
CODE = "from nonsmooth.cli import main; main()"
ENCODINGS = ("latin-1", "cp437", "cp932", "koi8-r", "utf-8", "utf-16", "ascii:strict")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@pytest.fixture
def stored(environment, tmp_path, command):
    """A run of the invented claims, which `report` and `reproduce` find measured."""
    done = command("reproduce", "--out", "run")
    assert done.returncode == 0, done.stderr
    return environment


def launch(arguments, environment, cwd, **options):
    return subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        env=environment, cwd=cwd, capture_output=True, timeout=120, check=False, **options,
    )  # fmt: skip


COMMANDS = {
    "reproduce": ("reproduce", "--out", "run"),
    "report": ("report", "run"),
    "claims": ("claims",),
    "claims as JSON": ("claims", "--json"),
    "floor": ("floor", "--optimizer", "sgd", "--lr", "0.1", "--lam", "0.1"),
    "help": ("floor", "--help"),
    "error": ("reproduce", "no-such-λ"),
    "refused": ("floor", "--optimizer", "sgd", "--lr", "-1", "--lam", "0.1"),
}


OTHERS = ("claims", "claims as JSON", "floor", "help")


@pytest.mark.parametrize(
    "encoding", ["cp1252", *(pytest.param(e, marks=pytest.mark.slow) for e in ("ascii", *ENCODINGS))]
)
def test_every_command_ends_under_every_encoding(stored, tmp_path, encoding):
    """One process per encoding runs them all, as loading torch takes long."""
    program = """
import json, sys
from nonsmooth.cli import app
from nonsmooth.cli.terminal import run_command
codes = {}
for name, arguments in json.loads(sys.argv[1]).items():
    print("## " + name)
    sys.argv[1:] = arguments
    codes[name] = run_command(app)
open("codes.json", "w", encoding="utf-8").write(json.dumps(codes))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(COMMANDS)],
        env={**stored, "PYTHONIOENCODING": encoding}, cwd=tmp_path, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    name = encoding.partition(":")[0]
    output, errors = done.stdout.decode(name), done.stderr.decode(name)
    assert done.returncode == 0, errors
    assert "Traceback" not in errors
    codes = json.loads((tmp_path / "codes.json").read_text(encoding="utf-8"))
    assert codes == {**dict.fromkeys(COMMANDS, 0), "error": 2, "refused": 2}
    parts = {part.partition("\n")[0].strip(): part.partition("\n")[2] for part in output.split("## ")[1:]}
    for command in ("reproduce", "report"):
        table = [line for line in parts[command].splitlines() if "capture" in line or "rate" in line]
        assert any("reproduced" in line for line in table)
        assert any("inconclusive" in line for line in table)
        assert max(map(len, table)) <= 80
        assert "Report:" in parts[command]
    json.loads(parts["claims as JSON"])
    assert "L1 norm of 1 weight" in parts["floor"]
    assert ("λ" if name.startswith("utf") else "lambda") in parts["floor"] or name in ("cp437", "cp932", "koi8-r")


@pytest.mark.parametrize("name", ["reproduce", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
@POSIX
def test_a_full_output_is_one_clear_line(stored, tmp_path, name):
    with Path(FULL).open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", CODE, *COMMANDS[name]],
            env=stored, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("name", ["reproduce", *(pytest.param(n, marks=pytest.mark.slow) for n in OTHERS)])
@POSIX
def test_a_reader_that_has_gone_ends_the_command_without_a_word(stored, tmp_path, name):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE, *COMMANDS[name]],
            env=stored, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (1, 141)


@pytest.mark.parametrize(
    "closed",
    [
        "<&- >&- 2>&-",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("<&-", ">&-", "2>&-", ">/dev/full 2>/dev/full")),
    ],
)
@POSIX
def test_closed_streams_are_led_nowhere(stored, tmp_path, closed):
    shell = f'exec "$0" "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, "-c", CODE, *COMMANDS["report"]],
        env=stored, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if "full" in closed else 0)
    assert done.stderr == ""
    json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"COLUMNS": "1"},
        {"COLUMNS": "0"},
        {"COLUMNS": "many"},
        {"COLUMNS": "100000"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"TERM": "no-such-terminal", "FORCE_COLOR": "1", "NO_COLOR": ""},
        {"LANG": "C", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "no_SUCH.locale"},
        {"HOME": ""},
        {"HOME": "/nonexistent/\x1b[31m"},
        {"TTY_COMPATIBLE": "1", "COLUMNS": "3"},
    ],
)
def test_the_environment_of_a_terminal_changes_no_result(stored, tmp_path, changes):
    done = launch(("report", "run"), {**stored, **changes}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "run" / "report" / "index.html").exists()


@POSIX
def test_a_working_folder_that_is_gone_is_one_clear_line(environment, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    shell = f'cd {gone} && rmdir {gone} && exec "$0" "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, "-c", CODE, "reproduce", "--out", "run"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the working folder cannot be used")
    assert len(done.stderr.strip().splitlines()) == 1
