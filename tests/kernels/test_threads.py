"""Results do not depend on the number of threads, to the last bit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from brodmann import RMSNorm, UpdateRule
from brodmann.areas import Slab
from brodmann.kernels import Groups, Served, per_row
from brodmann.kernels.build import FLAGS, SOURCE, find_compiler
from brodmann.kernels.native import Native

from ..settings import using_threads
from .parts import RULES, Case, case_of, cases, needs_kernels


def computed_by(threads: int, case: Case, rule: UpdateRule) -> list[Tensor]:
    """Returns what every operation makes of a case."""
    served = Served(Groups.of(case.area, case.areas), case.slot)
    weight, other, bias = (Slab(start.clone(), rule) for start in (case.weight, 2 * case.weight, case.bias))
    known, prototypes = Slab(case.weight[:1].clone(), rule), case.weight[0].to(case.x.dtype)
    below, native = case.x.clone(), Native()
    torch.manual_seed(0)  # decides how bfloat16 is rounded
    with using_threads(threads):
        out = native.forward(case.weight, case.bias, served, case.x, beside=case.delta)
        native.add_error(case.weight, served, case.delta, below)
        for _ in range(2):
            targets = [weight.target(0.05, 0.2), other.target(0.1, 0.2)]
            native.update(rule, targets, served, case.delta, case.x, bias=bias.target(0.1, 0.3))
            known.move(prototypes.sin(), 0.05, 0.2)
        cell = per_row.nearest(case.x, prototypes)
        of_gate = per_row.gate_down(case.x, prototypes, cell, case.x.sum(1), 0.3)
        norm, pull_back = RMSNorm().with_pull_back(case.x)
        found = [out, below, cell, of_gate, norm, pull_back(below)]
    moved = [part for slab in (weight, other, bias, known) for part in slab.tensors().values()]
    return [part for part in (*found, *moved) if part is not None]


@needs_kernels
@settings(max_examples=40)
@given(case=cases() | cases(bfloat16=True), rule=st.sampled_from(RULES))
@example(case=case_of((9, 0, 3, 200, 30, 17, 25, 16), 130, 70, torch.float32), rule=RULES[3])  # a hot area, shared
@example(case=case_of((15,), 1100, 9, torch.float32), rule=RULES[3])
@example(case=case_of((3, 120), 9, 1100, torch.bfloat16), rule=RULES[2])
@example(case=case_of((1100,), 17, 33, torch.float64), rule=RULES[4])
@example(case=case_of((3, 5, 8), 300, 200, torch.bfloat16), rule=RULES[4])
def test_results_do_not_depend_on_the_number_of_threads(case: Case, rule: UpdateRule) -> None:
    """To the last bit: compilers fuse multiplications and additions as they like, unless they are told."""
    assert all(map(torch.equal, computed_by(1, case, rule), computed_by(3, case, rule)))


@needs_kernels
@pytest.mark.slow
def test_results_do_not_depend_on_threads_where_all_is_one_program(tmp_path: Path) -> None:
    """What the sanitisers drive, compiled as the kernels are: every operation, by one thread and by three."""
    compiler, program = find_compiler(), tmp_path / "driver"
    assert compiler is not None
    driver = Path(__file__).parent.parent / "sanitise.cpp"
    subprocess.run([compiler, *FLAGS, "-w", f"-I{SOURCE.parent}", str(driver), "-o", str(program)], check=True)
    found = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "clean\n")
