"""The command line: thin, every command is one call into the library."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import tyro

from .. import __version__
from ..errors import BrodmannError, lacks_memory
from ..runs.extensions import add_extension, import_extensions
from .bench import Bench, Report
from .data import Data
from .doctor import Doctor
from .finished import Evaluate, Inspect, Predict
from .output import OUT
from .train import Train

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with 2 on a user's error, 128 + signal when stopped."""
    _prepare_terminal()
    with _as_exit_status():
        _run(sys.argv[1:] if arguments is None else arguments)


def _prepare_terminal() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its code
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("COLUMNS") == "0":  # a terminal that does not know its width, into which no letter fits
        del os.environ["COLUMNS"]
        OUT.width = shutil.get_terminal_size().columns


@contextmanager
def _as_exit_status() -> Iterator[None]:
    """Turns what a user can mend into a line of text and the exit status 2; other errors pass."""
    try:
        yield
    except BrodmannError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        print("error: There is not enough memory: use fewer areas, layers, units or samples.", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our lines has seen enough, such as `head`
        _drop_output()
        sys.exit(128 + 13)  # 13: SIGPIPE, which Windows does not have
    except OSError as error:
        if error.filename is None:  # from printing our own lines
            _drop_output()
            print(f"error: Cannot write the output: {error.strerror}.", file=sys.stderr)
        else:  # names too long, folders that cannot be read or emptied
            print(f"error: Cannot use {error.filename}: {error.strerror}. Choose another path.", file=sys.stderr)
        sys.exit(2)


def _run(arguments: list[str]) -> None:
    arguments = _without_imports(arguments)
    import_extensions()
    if arguments == ["--version"]:
        print(f"brodmann {__version__}")
        return
    command: Any = tyro.cli(
        Command,
        prog="brodmann",
        description=(
            "Train deep networks without backpropagation, by Selective Adaptive Learning. `brodmann COMMAND --help` "
            "lists a command's options, `brodmann --version` prints the version. `brodmann --import FILE COMMAND` "
            "first imports a file or module that registers rules of your own."
        ),
        args=_data_first(arguments),
    )
    if isinstance(command, Train) and command.resume is not None:
        command.check_resumed(arguments[1:])
    command.run()
    if sys.stdout is not None:  # it may have been closed
        sys.stdout.flush()


def _without_imports(arguments: list[str]) -> list[str]:
    """Removes every ``--import NAME``, wherever it stands, and notes what they name."""
    others, left = list[str](), iter(arguments)
    for argument in left:
        option, given, name = argument.partition("=")
        if option != "--import":
            others.append(argument)
            continue
        name = name if given else next(left, "")
        if not name:
            raise BrodmannError(
                f"{option} needs a Python file or a module, as in: brodmann --import mine.py train digits."
            )
        add_extension(name)
    return others


def _data_first(arguments: list[str]) -> list[str]:
    """Puts the data of ``train`` before its options: behind ``--width 64 32`` it would be read as one more width."""
    if arguments[:1] != ["train"] or not arguments[1:] or not arguments[1].startswith("-"):
        return arguments
    for place in range(2, len(arguments)):
        before, word = arguments[place - 1 : place + 1]
        if _is_number(before) and not _is_number(word) and not word.startswith("-"):
            return ["train", word, *arguments[1:place], *arguments[place + 1 :]]
    return arguments


def _is_number(word: str) -> bool:
    """Whether a word is a number as Python reads it: unlike cells of tables, options may be 1_000."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _drop_output() -> None:
    """Drops lines that wait to be printed, which Python would try to print once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["main"]
