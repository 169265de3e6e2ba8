"""The compiled kernels under the compiler's sanitisers: no stray access, no undefined arithmetic, no race."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from brodmann.kernels.build import SOURCE, find_compiler

SOURCES = {path.name: path.read_text() for path in (SOURCE, *SOURCE.parent.glob("*.h"))}
DRIVER = Path(__file__).with_name("sanitise.cpp")
KINDS = {
    "addresses and arithmetic": ["-fsanitize=address,undefined", "-fopenmp", "-DBRODMANN_OPENMP"],
    # The file hands its tiles to plain threads here: those of OpenMP wait for each other unseen.
    "threads": ["-fsanitize=thread"],
}
FAULTS = {
    "addresses and arithmetic": ("std::min(begin + size, end)", "begin + size"),
    "threads": ("blocks * (piece + 1) / pieces", "blocks * (piece + 2) / pieces"),  # two threads move the same weights
}

pytestmark = pytest.mark.slow


def built(kind: str, sources: dict[str, str], folder: Path) -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    for name, text in sources.items():
        (folder / name).write_text(text)
    program = folder / "sanitise"
    flags = ["-std=c++17", "-O1", "-g", "-march=native", "-fno-math-errno", "-fno-sanitize-recover=all", *KINDS[kind]]
    found = subprocess.run(
        [compiler, *flags, f"-I{folder}", str(DRIVER), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "cannot find" in found.stderr:
        pytest.skip("the compiler came without its sanitisers")
    assert found.returncode == 0, found.stderr
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_clean(kind: str, tmp_path: Path) -> None:
    found = run(built(kind, SOURCES, tmp_path))
    assert (found.returncode, found.stdout, found.stderr) == (0, "clean\n", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_is_found(kind: str, tmp_path: Path) -> None:
    right, wrong = FAULTS[kind]
    assert sum(text.count(right) for text in SOURCES.values()) == 1
    program = built(kind, {name: text.replace(right, wrong) for name, text in SOURCES.items()}, tmp_path)
    for _ in range(10):  # on a busy machine threads may run one after the other, where a race is not always seen
        found = run(program)
        assert found.returncode != 0  # results differ, too
        if "Sanitizer" in found.stderr:
            return
    pytest.fail(f"The sanitiser does not see the fault: {found.stdout}")
