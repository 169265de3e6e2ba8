"""The compiled kernels by other compilers and on other processors: they compile, and compute the same."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brodmann.kernels.build import COMPILERS, FLAGS, SOURCE, build, find_compiler

HERE = Path(__file__).parent
IS_X86 = platform.machine() in ("x86_64", "AMD64")
ARM, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64-static"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(build().library is None, reason=f"no compiled kernels here: {build().why}"),
]


def compiler_named(name: str) -> str:
    found = shutil.which(name)
    return found or pytest.skip(f"no {name} here")


def assert_kernels_equal_pytorch(folder: Path, before: str = "", **environment: str) -> None:
    """Runs the tests of the kernels in a process whose kernels are built anew."""
    program = (
        f"import sys, pytest; {before}"
        f"sys.exit(pytest.main(['-q', '-k', 'equal or nearest or bfloat16 or together or threads or gate or loss', "
        f"{str(HERE / 'kernels')!r}]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "BRODMANN_CACHE": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert " passed" in found.stdout
    assert "skipped" not in found.stdout
    assert len(list(folder.glob("*.so"))) == 1  # built so, and used


@pytest.mark.skipif(not IS_X86, reason="registers of other processors have one width")
@pytest.mark.parametrize("without", ["avx512f", "avx"])
def test_narrower_registers_give_the_same(without: str, tmp_path: Path) -> None:
    before = f"from brodmann.kernels import build; build.FLAGS += ('-mno-{without}',); "
    assert_kernels_equal_pytorch(tmp_path, before)


def test_products_of_pairs_give_the_same(tmp_path: Path) -> None:
    """Also where they are left out, since the processor is no faster with them."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "avx512_bf16" not in cpuinfo.read_text():
        pytest.skip("the processor has no instruction for them")
    assert_kernels_equal_pytorch(tmp_path, "from brodmann.kernels import build; build._of_processor = lambda: (); ")
    assert_kernels_equal_pytorch(
        tmp_path / "without",
        "from brodmann.kernels import build; build._of_processor = lambda: (build.WITHOUT_PAIRS,); ",
    )


def test_maps_of_both_storages_keep_their_own_rows(tmp_path: Path) -> None:
    """Without pairs the rows of both are float32, and are laid out in the same memory."""
    program = """
import torch
from brodmann import SGD
from brodmann.kernels import Groups, Served, build
from brodmann.kernels.interface import Target
from brodmann.kernels.native import Native
build._of_processor = lambda: (build.WITHOUT_PAIRS,)
for turn in range(3):
    for number in (torch.float32, torch.bfloat16):
        x, delta, weight = torch.randn(32, 64), torch.randn(32, 10), torch.zeros(1, 10, 64, dtype=number)
        Native().update(SGD(), [Target(weight, {}, 1.0, 0.0)], Served(Groups.single(32)), delta, x)
        torch.testing.assert_close(weight[0].float(), -delta.t() @ x, rtol=0.01, atol=1e-4)
"""
    environment = {**os.environ, "BRODMANN_CACHE": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("*.so"))) == 1


@pytest.mark.parametrize("name", COMPILERS)
def test_every_compiler_gives_the_same(name: str, tmp_path: Path) -> None:
    assert_kernels_equal_pytorch(tmp_path, CXX=compiler_named(name))


@pytest.mark.skipif(not IS_X86, reason="these are names of x86's processors")
@pytest.mark.parametrize("name", COMPILERS[:2])
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "skylake-avx512", "cooperlake"])
def test_the_kernels_compile_for_other_processors(processor: str, name: str) -> None:
    flags = [flag.replace("native", processor) for flag in FLAGS]
    strict = ["-DBRODMANN_OPENMP", "-Wall", "-Wextra", "-Wno-psabi", "-fsyntax-only"]
    command = [compiler_named(name), *flags, *strict, str(SOURCE)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_arm_computes_what_this_processor_does(tmp_path: Path) -> None:
    """Cross-compiled and emulated, where the tools for it are there."""
    own = find_compiler()
    assert own is not None
    results = []
    for compiler, emulator in ((own, []), (compiler_named(ARM), [compiler_named(EMULATOR)])):
        program, found = tmp_path / "driver", tmp_path / "results"
        flags = [flag for flag in FLAGS if not (emulator and flag.startswith("-march"))]
        source = [f"-I{SOURCE.parent}", str(HERE / "sanitise.cpp")]
        subprocess.run([compiler, *flags, "-w", *source, "-static", "-o", str(program)], check=True)
        run = subprocess.run([*emulator, str(program), str(found)], capture_output=True, text=True, check=False)
        assert run.stdout == "clean\n"
        results.append(np.fromfile(found))
    here, there = results
    assert len(here) > 100_000
    far = np.abs(here - there) > 1e-3 * (1 + np.abs(here))
    assert far.mean() < 1e-4  # bfloat16 rounds by chance: a sum that differs in its last bit may fall to the other side
    np.testing.assert_allclose(here, there, rtol=0.02, atol=0.02)
