"""What the commands print on: streams of any encoding, closed or full, and a console for text that others wrote."""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from rich.console import Console
from rich.text import Text

from nonsmooth.foreign_text import visible

BROKEN_PIPE = 128 + 13
"""The exit code of a command whose reader has gone, as a shell has it."""

SPELLINGS = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "ε": "epsilon", "λ": "lambda", "μ": "mu", "σ": "sigma", "τ": "tau"},
    **{"Σ": "sum ", "∂": "d", "∇": "grad ", "√": "sqrt", "∞": "inf", "‖": "||", "·": "*", "×": "x", "±": "+-"},
    **{"≤": "<=", "≥": ">=", "≈": "~", "≠": "!=", "→": "->", "−": "-", "–": "-", "—": "-", "…": "...", "§": "sec. "},
    **{"“": '"', "”": '"', "‘": "'", "’": "'", "⁰": "^0", "¹": "^1", "²": "^2", "₁": "_1", "₂": "_2"},
    **{"\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "█": "#", "▉": "#", "▊": "#", "▋": "#", "▌": "#"},
    **{"▍": "", "▎": "", "▏": "", "━": "=", "╸": "=", "╺": "="},
}
"""For encodings that do not have a character: how it is written without it. Others become escapes."""

ERRORS = "nonsmooth.spelled"
"""The name of the error handler that writes `SPELLINGS`; it never refuses a text."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    escaped = (SPELLINGS.get(character, character) for character in missing)
    return "".join(escaped).encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(ERRORS, _spell)


class OutputError(Exception):
    """Standard output cannot be written: the disk is full, or the terminal has gone."""


class Terminal(Console):
    """A console that prints strings as they are: no markup, no emoji, no colours of its own choice.

    Args:
        stderr: print on standard error, where what cannot be printed is given up without a word.
    """

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

        self._lost = ""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's.

        Raises:
            OutputError: standard output cannot be written.
        """
        self._check()
        super().print(*objects, **options)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Write what was printed in the block; `print` is such a block, and so is each picture of live progress."""
        try:
            super().__exit__(kind, error, trace)
        except OSError as refusal:
            self.quiet, self._lost = True, refusal.strerror or str(refusal)
            # Nobody would catch what is raised in the thread that draws: the next thing printed raises it.
            if threading.current_thread() is threading.main_thread():
                self._check()

    def _check(self) -> None:
        if self._lost and not self.stderr:
            raise OutputError(self._lost)

    def on_broken_pipe(self) -> None:
        """End without a word, as a program does whose reader has gone."""
        self.quiet = True
        if not self.stderr:
            raise SystemExit(BROKEN_PIPE)


def foreign(console: Console, text: object, style: str = "") -> Text:
    """Text from outside as one line: no markup, no control characters, and as wide as it will be printed."""
    return Text(spelled(visible(text), console.encoding), style)


def spelled(text: str, encoding: str) -> str:
    """The text as a stream of that encoding will show it."""
    return text.encode(encoding, ERRORS).decode(encoding)


def print_json(content: Any) -> None:
    """Print JSON that any encoding can hold.

    Raises:
        OutputError: standard output cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=not (sys.stdout.encoding or "utf-8").lower().startswith("utf"))
    try:
        print(text)
    except BrokenPipeError:
        raise SystemExit(BROKEN_PIPE) from None
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


def run_command(command: Callable[[], Any]) -> int:
    """Run a command line to its end, whatever the streams are, and whatever asks it to stop.

    Returns:
        Its exit code; 128 and the signal's number where a signal or a reader that has gone ended it.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)
    with _signals_end_in_order():
        code = _code_of(command)
        if not _flushed(sys.stdout):
            code = code or 1
        _flushed(sys.stderr, told=False)
        return code


def _code_of(command: Callable[[], Any]) -> int:
    try:
        Path.cwd()
    except OSError as error:  # torch would end the process with a message about its own files
        _say(f"the working folder cannot be used: {error.strerror or error}; change to one that exists")
        return 1
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OutputError as error:
        _say(f"cannot write to standard output: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"{where}{error.strerror or error}")
    else:
        return 0
    return 1


def _say(message: str) -> None:
    console = Terminal(stderr=True)
    console.print(Text.assemble(("Error: ", "bold red"), foreign(console, message)), soft_wrap=True)


def _flushed(stream: TextIO | None, told: bool = True) -> bool:
    """Whether a stream took everything. One that did not is led nowhere, or Python would complain at its end."""
    if stream is None:
        return True
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        broken = isinstance(error, BrokenPipeError)
        if told and not broken and isinstance(error, OSError) and error.errno != errno.EBADF:
            _say(f"cannot write to standard output: {error.strerror or error}")
        return broken
    return True


def _open_closed_streams() -> None:
    """Lead closed standard streams nowhere: else the next file that is opened would take the place of one."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
        os.set_inheritable(descriptor, True)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  as long as the process


@contextlib.contextmanager
def _signals_end_in_order() -> Iterator[None]:
    """Requests to terminate unwind the program as Ctrl-C does. What is ignored, as under nohup, stays ignored."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
