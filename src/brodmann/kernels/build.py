"""Builds the compiled kernels at first use, and keeps them in the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..errors import BrodmannError, warn
from ..files import expanded, in_turn, user_cache

SOURCE = Path(__file__).with_name("grouped.cpp")
WITHOUT_PAIRS = "-DBRODMANN_WITHOUT_PAIRS"
"""Compiles no products of bfloat16 pairs: Intel's cores begin one of their instructions a cycle, and two of float32's,
which multiply as much, so that pairs cost 1.4 times as much there (docs/log.md). AMD's begin two."""
NATIVE = "-mcpu=native" if platform.machine() == "aarch64" else "-march=native"  # clang takes only the first there
FLAGS = ("-O3", NATIVE, "-fno-math-errno", "-fPIC", "-std=c++17")
COMPILERS = ("g++", "clang++", "c++")
CACHE_VARIABLE = "BRODMANN_CACHE"
SWITCH_VARIABLE = "BRODMANN_KERNELS"
PATIENCE = 1800
"""Seconds that compiling may take, turns of other processes included: tens of them on an idle machine, and more the
busier it is."""
_LOG = logging.getLogger("brodmann")


@dataclass(frozen=True)
class Build:
    """What came of building.

    Attributes:
        library: The loaded kernels, or None.
        path: Their file, or None.
        why: One sentence: why they are active, or why they are not and what to do.
        intended: Whether there is nothing to mend: kernels were switched off on purpose, or are for other systems.
    """

    library: ctypes.CDLL | None
    path: Path | None
    why: str
    intended: bool = False


@cache
def build() -> Build:
    """Loads the kernels, after compiling them (ten seconds or more) if this machine has not yet done so.

    The file's name holds a digest of the source, the compiler, its flags, the processor and PyTorch's version, so that
    a changed machine builds new ones. If no compiler works, kernels that an earlier one built are used. Never raises:
    see `Build.why`.
    """
    if sys.platform != "linux":
        return Build(None, None, "They are for Linux; here PyTorch computes what they would.", intended=True)
    switch = os.environ.get(SWITCH_VARIABLE, "auto")
    if switch.lower() not in ("auto", "off"):
        warn(f"Expected {SWITCH_VARIABLE} to be auto or off, got '{switch}', which counts as auto.")
    if switch.lower() == "off":
        return Build(None, None, f"Switched off by {SWITCH_VARIABLE}=off.", intended=True)
    try:
        path, why = _found()
    except (OSError, BrodmannError) as error:  # without a home there is no cache folder either
        reason = str(error).rstrip(".")
        return Build(None, None, f"The kernels could not be written: {reason}. Set {CACHE_VARIABLE} to another folder.")
    if path is None:
        return Build(None, None, why)
    try:
        return Build(ctypes.CDLL(str(path)), path, why)
    except OSError as error:
        return Build(
            None,
            None,
            f"The kernels could not be loaded: {error}. Remove that file to compile them again, or, if its folder "
            f"forbids executing what is in it, set {CACHE_VARIABLE} to another.",
        )


def _found() -> tuple[Path | None, str]:
    """Returns the path of the kernels and how they were built; or None, and why there are none."""
    path, why = _by_compiler()
    if path is not None:
        return path, why
    path = _whole(f"{_stem(SOURCE)}-*")
    return path, why if path is None else f"Compiled for this processor by an earlier compiler. {why}"


def _by_compiler() -> tuple[Path | None, str]:
    """As `_found`, of kernels by the compiler that is there now."""
    named = os.environ.get("CXX")
    try:
        compiler = find_compiler()
    except ValueError as error:
        return None, f"CXX cannot be read: {named} ({error}). Name one compiler in it, or unset it."
    if compiler is None:
        missing = f"The compiler that CXX names was not found: {named}." if named else "No C++ compiler was found."
        return None, f"{missing} Install g++ or clang++, or set CXX to one."
    try:
        return compiled(SOURCE, compiler), f"Compiled by {compiler} for this processor."
    except subprocess.SubprocessError as error:
        return None, f"{compiler} {_complaint(error)}"


def _complaint(error: subprocess.SubprocessError) -> str:
    """Returns what a compiler did instead, and what to do: the end of a sentence, and another."""
    if isinstance(error, subprocess.TimeoutExpired):
        return "did not finish in time: is the machine busy, or the disk? The next process tries again."
    said = getattr(error, "stderr", None) or str(error)
    lines = said.strip().splitlines()
    # The first lines only say where.
    line = next((line for line in lines if "error:" in line), lines[0] if lines else str(error))
    return f"failed: {line.rstrip('.')}. The kernels need g++ 12, or clang++, and space on the disk."


def cache_folder() -> Path:
    """Returns the folder of compiled kernels: BRODMANN_CACHE, else the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    # Absolute: the system's loader looks for a bare name elsewhere.
    return (expanded(named) if named else user_cache()).absolute()


def find_compiler() -> str | None:
    """Returns the C++ compiler's path: the one that CXX names, else the first of g++, clang++ and c++.

    CXX may hold options, or a launcher, before and behind the name: ``ccache g++``, ``g++ -m64``.

    Raises:
        ValueError: CXX has a quotation without an end.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        found = shutil.which(named[0])
        return found and shlex.join([found, *named[1:]])
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def compiled(source: Path, compiler: str) -> Path:
    """Returns the shared library of a C++ file, after compiling it if the cache has no whole one.

    The file may include the headers of the kernels. The library's name holds what it was made of and its own digest:
    one that a full disk or a power loss has cut short would crash the process that loads it, and is compiled again.

    Raises:
        subprocess.SubprocessError: The compiler failed, or did not finish in time.
        OSError: The cache cannot be written.
    """
    command = shlex.split(compiler)
    version = _run([*command, "--version"], time.monotonic() + 30)
    stem = f"{_stem(source)}-{_digest(compiler, version)}"
    if kept := _whole(stem):
        return kept
    folder, until = cache_folder(), time.monotonic() + PATIENCE
    folder.mkdir(parents=True, exist_ok=True)
    with in_turn(folder):  # if many processes begin together, one compiles for all
        return _whole(stem) or _compile(source, command, folder / stem, until)


def _compile(source: Path, command: list[str], stem: Path, until: float) -> Path:
    """Compiles a C++ file into a library whose path begins like this, and returns it."""
    _LOG.warning("Compiling the kernels, once for this machine: this takes ten seconds or more.")
    openmp = _openmp()
    with tempfile.TemporaryDirectory(dir=stem.parent) as scratch:
        half, whole = Path(scratch) / "half.o", Path(scratch) / "whole.so"
        parallel = ["-DBRODMANN_OPENMP"] if openmp else []
        _run([*command, *FLAGS, *_of_processor(), *parallel, "-c", str(source), "-o", str(half)], until)
        _run([*command, "-shared", str(half), *([str(openmp)] if openmp else []), "-o", str(whole)], until)
        if not whole.is_file():
            raise subprocess.SubprocessError("it ended without an error and wrote nothing")
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        target = stem.with_name(f"{stem.name}-{_digest(whole.read_bytes())}.so")
        os.replace(whole, target)  # atomic: another process sees all of it or nothing
    return target


def _stem(source: Path) -> str:
    """Returns how the names of a file's libraries begin: all that they depend on but the compiler."""
    texts = [path.read_text() for path in (source, *sorted(SOURCE.parent.glob("*.h")))]
    return f"{source.stem}-{_digest(*texts, *FLAGS, *_of_processor(), str(_openmp()), torch.__version__, _processor())}"


def _whole(stem: str) -> Path | None:
    """Returns a library in the cache whose name begins like this, a pattern, and ends with its own digest."""
    found = cache_folder().glob(f"{stem}-*.so")
    return next((path for path in found if path.stem.endswith(f"-{_digest(path.read_bytes())}")), None)


def _digest(*parts: str | bytes) -> str:
    whole = b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)
    return hashlib.sha256(whole).hexdigest()[:16]


def _run(command: list[str], until: float) -> str:
    """Runs a command, until a moment of the clock at most, and returns what it prints, in any encoding.

    Raises:
        subprocess.SubprocessError: It failed, was not done by then, or is not a program.
    """
    left = max(until - time.monotonic(), 0.0)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=left)
    except OSError as error:
        raise subprocess.SubprocessError(str(error)) from None
    return done.stdout


def _openmp() -> Path | None:
    """Returns PyTorch's own OpenMP library: a second one would bring a second pool of threads to fight with."""
    folder = Path(torch.__file__).parent
    places = [folder / "lib", folder.parent / "torch.libs"]
    return next((path for place in places for path in sorted(place.glob("lib*omp*.so*")) if _is_openmp(path)), None)


def _is_openmp(path: Path) -> bool:
    """Whether a library is GNU's, Intel's or LLVM's OpenMP: others have similar names, as libbackend_with_compiler."""
    return path.name.startswith(("libgomp", "libiomp", "libomp"))


def _of_processor() -> tuple[str, ...]:
    """Returns flags for what `-march=native` does not know."""
    return (WITHOUT_PAIRS,) if "GenuineIntel" in _processor() else ()


def _processor() -> str:
    """Names the processor and what it can do, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() + platform.machine()
    telling = ("vendor_id", "model name", "flags", "Features")
    return "".join(sorted({line for line in text.splitlines() if line.startswith(telling)}))
