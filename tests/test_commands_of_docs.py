"""Every command that the pages quote is one that the programs take: options, recipes, methods and targets exist."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro

from brodmann.bench import Plan, cases_of
from brodmann.cli import main
from brodmann.cli.bench import Bench

from .test_docs import FENCED, NOW, ROOT, name_of

PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*(brodmann|make|python benchmarks/\w+\.py)( .+)?")
MENTIONED = re.compile(r"brodmann( train| predict| inspect| bench| report| data fetch)?")
"""Names of programs without what they need."""


def commands_of(page: Path) -> list[str]:
    """The commands of a page, in its text and in blocks, without comments and dots for what is to be filled in."""
    text = page.read_text()
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    found = [re.sub(r"(?: --methods)? \.\.\.$", "", line.split(" # ")[0].strip()) for line in lines]
    return [line for line in dict.fromkeys(found) if PROGRAM.fullmatch(line) and not MENTIONED.fullmatch(line)]


def taken(command: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a program reads from the arguments of a command, or None if it refuses them. It ends there."""
    read = []

    def ending(function: Callable[..., Any]) -> Callable[..., None]:
        def read_and_end(*given: Any, **named: Any) -> None:
            read.append(function(*given, **named))
            sys.exit()

        return read_and_end

    words = shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ )+|--import \S+ ", "", command))
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", ending(argparse.ArgumentParser.parse_args))
        patch.setattr(tyro, "cli", ending(tyro.cli))
        patch.setattr(sys, "argv", words[1:])
        patch.syspath_prepend(ROOT / "benchmarks")
        with pytest.raises(SystemExit):
            main(words[1:]) if words[0] == "brodmann" else runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    return read[0] if read else None


@pytest.mark.parametrize("page", [page for page in NOW if commands_of(page)], ids=name_of)
def test_programs_take_the_commands(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands_of(page):
        if command.startswith("make "):
            assert command.removeprefix("make ") in targets
            continue
        read = taken(command, monkeypatch)
        assert read is not None, command
        if isinstance(read, Bench) and read.methods:
            assert cases_of([read.name], Plan(protocols=read.protocols, sets=("digits",), methods=read.methods))


@pytest.mark.parametrize("command", ["python benchmarks/starts.py --nothing", "brodmann train digits --nothing"])
def test_a_command_that_no_program_takes_is_found(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert taken(command, monkeypatch) is None
