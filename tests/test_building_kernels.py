"""How the compiled kernels are built, kept and found again, and what happens without them."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from brodmann.files import contents
from brodmann.kernels.build import SOURCE, Build, build, find_compiler
from brodmann.kernels.build import compiled as library_of

needs_kernels = pytest.mark.skipif(build().library is None, reason=f"no compiled kernels here: {build().why}")

TRAIN = """
import json, torch, warnings
from brodmann import Network, mlp
from brodmann.kernels.build import build
torch.manual_seed(0)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    network = Network(mlp(5, 3, width=6, areas=4))
    losses = [float(network.learn(torch.ones(4, 5), torch.zeros(4, dtype=torch.long))) for _ in range(3)]
print(json.dumps({"why": build().why, "losses": losses, "warnings": [str(w.message) for w in seen]}))
"""


def train_elsewhere(**environment: str) -> dict[str, object]:
    result = subprocess.run(
        [sys.executable, "-c", TRAIN], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


def built_with(**environment: str) -> Build:
    """Builds the kernels anew, in this process, in another environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        build.cache_clear()
        try:
            return build()
        finally:
            build.cache_clear()


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_compiler_that_fails_is_quoted_where_it_says_why(tmp_path: Path) -> None:
    compiler = tmp_path / "broken"
    lines = (
        "#!/bin/sh",
        "[ $1 = --version ] && exit",
        "echo 'numbers.h: In function f:' >&2",
        "echo 'error: no g' >&2",
    )
    script = "\n".join((*lines, "exit 1", ""))
    compiler.write_text(script)
    compiler.chmod(0o755)
    found = built_with(CXX=str(compiler), BRODMANN_CACHE=str(tmp_path / "cache"))
    assert found.why == f"{compiler} failed: error: no g. The kernels need g++ 12, or clang++, and space on the disk."


def test_without_a_compiler_everything_works_with_one_notice(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'no such processor' >&2\nexit 1\n")
    broken.chmod(0o755)
    none = train_elsewhere(CXX="no-such-compiler", BRODMANN_CACHE=str(tmp_path))
    fails = train_elsewhere(CXX=str(broken), BRODMANN_CACHE=str(tmp_path))
    off = train_elsewhere(BRODMANN_KERNELS="off")
    assert none["why"] == (
        "The compiler that CXX names was not found: no-such-compiler. Install g++ or clang++, or set CXX to one."
    )
    assert (
        fails["why"]
        == f"{broken} failed: no such processor. The kernels need g++ 12, or clang++, and space on the disk."
    )
    assert off["why"] == "Switched off by BRODMANN_KERNELS=off."
    for run in (none, fails):
        assert len(run["warnings"]) == 1
        assert str(run["why"]) in run["warnings"][0]
    assert off["warnings"] == []
    assert none["losses"] == fails["losses"] == off["losses"]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiler that does not optimise: where and when kernels are built does not depend on how fast they are."""
    compiler = tmp_path_factory.mktemp("compiler") / "hasty"
    compiler.write_text(f'#!/bin/sh\nexec {find_compiler()} "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, hasty: str) -> tuple[Path, dict[str, Any]]:
    """A folder with newly compiled kernels, and what was trained with them."""
    folder = tmp_path_factory.mktemp("kernels")
    return folder, train_elsewhere(CXX=hasty, BRODMANN_CACHE=str(folder))


@needs_kernels
def test_kernels_are_built_once_and_kept(tmp_path: Path, hasty: str, built: tuple[Path, dict[str, Any]]) -> None:
    folder, first = built
    kept = contents(folder)
    assert [path.suffix for path in kept] == [".so"]
    made = kept[0].stat().st_mtime_ns
    second = train_elsewhere(CXX=hasty, BRODMANN_CACHE=str(folder))
    assert kept[0].stat().st_mtime_ns == made
    assert first["losses"] == second["losses"]
    assert first["warnings"] == []
    a_file = tmp_path / "file"
    a_file.write_text("")
    assert "could not be written" in built_with(BRODMANN_CACHE=str(a_file)).why


@needs_kernels
def test_kernels_outlive_their_compiler(tmp_path: Path, built: tuple[Path, dict[str, Any]]) -> None:
    folder, first = built
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    gone = train_elsewhere(CXX="no-such-compiler", BRODMANN_CACHE=str(tmp_path))
    assert gone["losses"] == first["losses"]
    assert gone["warnings"] == []
    assert str(gone["why"]).startswith(
        "Compiled for this processor by an earlier compiler. The compiler that CXX names was not found"
    )
    (kept,) = contents(tmp_path)
    content = kept.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), b""):
        kept.write_bytes(damaged)
        without = built_with(CXX="no-such-compiler", BRODMANN_CACHE=str(tmp_path))
        assert without.why.startswith("The compiler that CXX names was not found")


@needs_kernels
def test_a_damaged_library_is_compiled_anew(tmp_path: Path, hasty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRODMANN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "small.cpp"
    source.write_text('extern "C" int answer() { return 42; }\n')
    kept = library_of(source, hasty)
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    again = library_of(source, hasty)
    assert len(again.read_bytes()) == len(whole)
    assert ctypes.CDLL(str(again)).answer() == 42


def test_a_compiler_that_does_not_finish_is_not_said_to_be_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = executable(tmp_path / "hangs", "#!/bin/sh\n[ $1 = --version ] || exec sleep 60\n")
    monkeypatch.setattr("brodmann.kernels.build.PATIENCE", 0.1)
    found = built_with(CXX=compiler, BRODMANN_CACHE=str(tmp_path / "cache"))
    assert found.why.startswith(f"{compiler} did not finish in time: is the machine busy")
    assert "g++ 12" not in found.why
    assert "Compiling the kernels" in caplog.text  # nobody is to wait without a word


@needs_kernels
def test_earlier_kernels_serve_where_the_compiler_is_no_program(tmp_path: Path, built: tuple[Path, Any]) -> None:
    compiler = executable(tmp_path / "no-program", "\x7f")
    found = built_with(CXX=compiler, BRODMANN_CACHE=str(built[0]))
    assert found.library is not None
    assert f"{compiler} failed: [Errno 8] Exec format error" in found.why


def test_of_processes_that_need_them_together_one_compiles_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 'for last; do :; done; echo > "$last"'
    script = f"#!/bin/sh\n[ $1 = --version ] && exit\necho >> {tmp_path}/calls\nsleep 0.3\n{writes}\n"
    compiler, count = executable(tmp_path / "slow", script), 4
    monkeypatch.setenv("BRODMANN_CACHE", str(tmp_path / "cache"))
    with ThreadPoolExecutor(count) as processes:  # threads lock files against one another as processes do
        found = set(processes.map(library_of, [SOURCE] * count, [compiler] * count))
    assert len(found) == 1
    assert len((tmp_path / "calls").read_text()) == 2  # one compiles, one links


def test_cxx_may_hold_options_and_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    own = find_compiler()
    assert own is not None
    monkeypatch.setenv("CXX", f"env {own} -O1")
    found = find_compiler()
    assert found is not None
    assert found.endswith(f"/env {own} -O1")


def test_a_compiler_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    found = built_with(CXX='g++ "', BRODMANN_CACHE=str(tmp_path))
    assert found.library is None
    assert found.why == 'CXX cannot be read: g++ " (No closing quotation). Name one compiler in it, or unset it.'


@pytest.mark.parametrize("script", ["", "printf 'caf\\351\\n' >&2; exit 1", "printf 'caf\\351\\n'"])
def test_a_strange_compiler_is_no_reason_to_fail(script: str, tmp_path: Path) -> None:
    """One that writes nothing, and messages that are no UTF-8."""
    compiler = tmp_path / "strange"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    found = built_with(CXX=str(compiler), BRODMANN_CACHE=str(tmp_path / "cache"))
    assert found.library is None
    assert found.why.startswith(f"{compiler} failed: ")


def test_the_switch_of_the_kernels_is_read_in_any_case_and_says_what_it_does_not_know() -> None:
    assert built_with(BRODMANN_KERNELS="OFF").why == "Switched off by BRODMANN_KERNELS=off."
    with pytest.warns(UserWarning, match="Expected BRODMANN_KERNELS to be auto or off, got '0', which counts as auto"):
        built_with(BRODMANN_KERNELS="0")
