"""Structure: the package's parts import downwards only, in the order that docs/decisions.md gives them."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import brodmann

SOURCES = Path(brodmann.__file__).parent
DECISIONS = Path(__file__).parent.parent / "docs" / "decisions.md"
WITHOUT_FLOOR = {"__init__", "__main__"}


def floors() -> dict[str, int]:
    """Floor of each part, counted from the top."""
    table = re.search(r"\| floor \|.*?(?=\n\n)", DECISIONS.read_text(), re.DOTALL)
    assert table is not None
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table[0].splitlines()[2:]]
    return {part: floor for floor, parts in enumerate(rows) for part in parts}


def part_of(path: Path) -> str:
    return path.relative_to(SOURCES).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Parts of the package that a file imports, inside of functions too."""
    package = ("brodmann", *path.relative_to(SOURCES).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = (*above, *(node.module or "").split(".")) if node.module else above
            names = [(*module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "brodmann" and len(name) > 1}
    return found


def test_every_part_has_a_floor() -> None:
    parts = {part_of(path) for path in SOURCES.rglob("*.py")} - WITHOUT_FLOOR
    assert set(floors()) == parts


def test_imports_point_downwards() -> None:
    floor, upwards = floors(), set()
    for path in SOURCES.rglob("*.py"):
        own = part_of(path)
        if own not in WITHOUT_FLOOR:
            below = {part for part in imported(path) & floor.keys() if part != own}
            upwards |= {f"{path.relative_to(SOURCES)} -> {part}" for part in below if floor[part] <= floor[own]}
    assert not upwards


def test_no_stage_of_a_conversion_imports_from_a_later_one() -> None:
    stages = ("following", "rewriting", "steps", "building")
    for place, stage in enumerate(stages):
        paths = list((SOURCES / "conversion" / stage).glob("*.py"))
        assert paths
        for path in paths:
            read = set(re.findall(r"^from \.\.(\w+)", path.read_text(), re.MULTILINE))
            assert read.isdisjoint(stages[place + 1 :]), path


def test_a_planted_import_from_above_is_seen() -> None:
    assert {"errors", "routing"} <= imported(SOURCES / "layer" / "layer.py")
    assert "training" in imported(SOURCES / "estimator" / "base.py")
    assert floors()["training"] < floors()["network"] < floors()["errors"]


def test_no_source_is_ignored() -> None:
    root = DECISIONS.parent.parent
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not in a checkout")
    paths = [str(path.relative_to(root)) for path in (root / "src").rglob("*") if "__pycache__" not in path.parts]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    found = subprocess.run(command, cwd=root, input="\n".join(paths), capture_output=True, text=True)
    assert not found.stdout  # what git ignores neither linters nor wheels hold


def test_importing_loads_no_compiler_and_none_of_what_single_commands_need() -> None:
    late = ("torch._dynamo", "sympy", "matplotlib", "sklearn", "scipy", "tensorboard", "onnx", "triton")
    code = f"import sys, brodmann.cli; print(*sorted(set({late}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "\n"  # each takes as long as a small training


def test_neither_a_conversion_nor_a_step_with_a_loss_of_ones_own_loads_a_compiler() -> None:
    code = """
import sys, torch
from brodmann import Captured, Network, from_torch, mlp
from_torch(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)))
network = Network(mlp(6, 3, areas=1), lambda output, target: (output - target).square().mean())
network = Captured(network, own_parts=True)
for _ in range(3):
    network.learn(torch.randn(4, 6), torch.randn(4, 3))
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"  # it takes longer than either
