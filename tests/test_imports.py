"""Code of the user's own on the command line: rules, paths, activations and recipes from a file that is imported."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brodmann import BrodmannError
from brodmann.bench import RECIPES
from brodmann.bench.journal import Journal
from brodmann.builders import ACTIVATIONS, BUILDERS, FEEDBACKS
from brodmann.cli import main
from brodmann.losses import LOSSES
from brodmann.runs.extensions import VARIABLE, add_extension, import_extensions
from brodmann.runs.version import code_version
from brodmann.updates import UPDATES

MINE = """
from dataclasses import dataclass

from torch import nn
from neighbour import SCALE
from brodmann import FixedRandom, SGD
from brodmann.bench import RECIPES, Case
from brodmann.builders import ACTIVATIONS, FEEDBACKS
from brodmann.losses import LOSSES
from brodmann.runs import RunOptions
from brodmann.updates import UPDATES



@dataclass(frozen=True)
class Downhill(SGD):
    pass


def small(plan):
    own = {"optimiser": "downhill", "rule": "mine", "activation": "silu", "lr": 0.1, "decay": 0.0}
    return [Case("small", "mine", RunOptions("digits", width=8, areas=2, epochs=1, **own))]


UPDATES["downhill"], FEEDBACKS["mine"], ACTIVATIONS["silu"], RECIPES["small"] = Downhill, FixedRandom, nn.SiLU, small
LOSSES["margin"] = nn.MultiMarginLoss
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("SCALE = 1\n")
    (tmp_path / "brodmann_mine.py").write_text(MINE)
    return tmp_path / "brodmann_mine.py"


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Forgets what is imported and registered inside the block, as the end of a process does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")
        patch.setattr(sys, "path", [*sys.path])
        registries = (ACTIVATIONS, BUILDERS, FEEDBACKS, LOSSES, RECIPES, UPDATES)
        before = [dict(registry) for registry in registries]
        try:
            yield
        finally:
            for registry, known in zip(registries, before, strict=True):
                registry.clear()
                registry.update(known)
            for name in [name for name in sys.modules if name.startswith("brodmann_") or name == "neighbour"]:
                del sys.modules[name]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with nothing_stays():
        yield


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a process of its own would, without waiting for one to start."""
    with nothing_stays(), pytest.MonkeyPatch.context() as patch, ExitStack() as streams:
        patch.chdir(folder)
        for name, value in environment.items():
            patch.setenv(name, value)
        out, err = (streams.enter_context(redirect(io.StringIO())) for redirect in (redirect_stdout, redirect_stderr))
        try:
            main([*arguments])
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def test_a_run_with_rules_from_a_file(mine: Path) -> None:
    folder = mine.parent
    own = ["--optimiser", "downhill", "--rule", "mine", "--activation", "silu", "--lr", "0.1"]
    sizes = ["--width", "8", "--areas", "2", "--epochs", "1", "--no-figures", "--out", "run"]
    trained = command(folder, "--import", mine.name, "train", "digits", *own, *sizes)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((folder / "run" / "environment.json").read_text())["imported"].keys() == {str(mine)}
    assert command(folder, f"--import={mine.name}", "evaluate", "run").returncode == 0
    assert command(folder, "evaluate", "run", **{VARIABLE: str(mine)}).returncode == 0
    without = command(folder, "evaluate", "run")
    assert without.returncode == 2
    assert without.stderr.startswith(
        "error: Unknown update rule 'downhill'. Choose one of: adam, muon, rls, sgd. To use one of your"
    )
    assert "register it in brodmann.updates.UPDATES, in a file that `brodmann --import FILE` loads." in without.stderr
    assert f"This run imported files of its own: use `brodmann --import {mine} ...`." in without.stderr


def test_a_run_goes_on_with_its_own_files_and_is_told_where_they_changed(mine: Path) -> None:
    own = ["--optimiser", "downhill", "--lr", "0.1", "--width", "8", "--areas", "2", "--epochs", "1", "--no-figures"]
    trained = command(mine.parent, "--import", mine.name, "train", "digits", *own, "--out", "run")
    assert trained.returncode == 0, trained.stderr
    for name in ("result.json", "model.safetensors"):
        (mine.parent / "run" / name).unlink()
    unfinished = command(mine.parent, "evaluate", "run")
    resume = f"brodmann --import {mine} train --resume run"
    assert f"run is not finished: resume it with `{resume}`." in unfinished.stderr
    same = command(mine.parent, *resume.split()[1:], "--no-figures")
    assert same.returncode == 0, same.stderr
    assert "has changed since" not in same.stderr
    mine.write_text(mine.read_text() + "\nMORE = 1\n")
    (mine.parent / "run" / "result.json").unlink()
    told = f"{mine} has changed since this run began: it goes on with other code than it began with."
    with pytest.warns(UserWarning, match=re.escape(told)):
        other = command(mine.parent, *resume.split()[1:], "--no-figures")
    assert other.returncode == 0, other.stderr
    told = f"{mine} has changed since this run began: what it learned may compute otherwise now."
    np.save(mine.parent / "x.npy", np.zeros((2, 8, 8), dtype=np.float32))
    for finished in (["evaluate", "run"], ["predict", "run", str(mine.parent / "x.npy")], ["inspect", "run"]):
        with pytest.warns(UserWarning, match=re.escape(told)):
            asked = command(mine.parent, "--import", str(mine), *finished)
        assert asked.returncode == 0, asked.stderr


def test_a_run_with_a_loss_from_a_file(mine: Path) -> None:
    folder = mine.parent
    sizes = ["--width", "8", "--areas", "2", "--epochs", "2", "--no-figures", "--out", "run", "--compare", "--json"]
    trained = command(folder, "--import", mine.name, "train", "digits", "--loss", "margin", *sizes)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout.splitlines()[-1])
    assert min(result["test_accuracy"], result["backpropagation"]["test_accuracy"]) > 0.2  # chance: 0.1
    assert command(folder, "--import", mine.name, "evaluate", "run").returncode == 0
    without = command(folder, "evaluate", "run")
    assert without.returncode == 2
    assert without.stderr.startswith(
        "error: Unknown loss 'margin'. Choose one of: binary-cross-entropy, cross-entropy, mean-squared-error"
    )


OWN = """
import torch
from torch import nn

from brodmann import from_torch
from brodmann.builders import BUILDERS


class Reader(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embed, self.mix, self.readout = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, outputs)

    def forward(self, x):
        x = self.embed(x.reshape(-1, 8, 8)).relu()
        return self.readout((x + self.mix(x).tanh()).mean(1))


def reader(in_features, outputs, **parts):
    return from_torch(Reader(outputs), (in_features,), **parts)


BUILDERS["reader"] = reader
"""


def test_a_network_of_ones_own_goes_through_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "brodmann_own.py").write_text(OWN)
    own = ["--import", "brodmann_own.py"]
    options = ["--builder", "reader", "--areas", "3", "--epochs", "6", "--batch-size", "64", "--no-figures"]
    for rule in ("kolen-pollack", "random"):
        trained = command(tmp_path, *own, "train", "digits", *options, "--rule", rule, "--out", rule, "--json")
        assert trained.returncode == 0, trained.stderr
        result = json.loads(trained.stdout.splitlines()[-1])
        assert (result["builder"], result["test_accuracy"] > 0.3) == ("reader", True)
        assert (result["layers"], result["width"], result["channels"]) == (None, None, None)
        again = command(tmp_path, *own, "evaluate", rule, "--json")
        assert json.loads(again.stdout)["test_accuracy"] == result["test_accuracy"]
    again = command(tmp_path, *own, "inspect", "random")
    assert "body.nodes.mix" in again.stdout, again.stderr
    unknown = command(tmp_path, "evaluate", "random")
    assert unknown.stderr.startswith("error: Unknown builder 'reader'.")
    for given, wording in (
        (["--width", "8"], "--width cannot be combined with --builder: leave one of them out."),
        (["--dropout", "0.1"], "--dropout cannot be combined with --builder: leave one of them out."),
        (["--rule", "backprop"], "--builder cannot be combined with the baseline 'backprop'"),
        (["--compare"], "compare with --rule transpose --areas 1, which learns as backpropagation does."),
    ):
        refused = command(tmp_path, *own, "train", "digits", "--builder", "reader", *given)
        assert refused.returncode == 2
        assert wording in refused.stderr


def test_workers_of_a_benchmark_import_it_too(mine: Path) -> None:
    done = command(mine.parent, "--import", mine.name, "bench", "small", "--out", "rows")
    assert done.returncode == 0, done.stderr
    (row,) = Journal(mine.parent / "rows" / "rows.jsonl").rows()
    assert row["options"]["optimiser"] == "downhill"
    assert row["code"] != code_version()  # rows of other code are told apart


def test_what_cannot_be_imported_says_why(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "brodmann_fails.py").write_text("one = 1\none / 0\n")
    (tmp_path / "brodmann_broken.py").write_text("def\n")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    for name, wording in (
        (
            "brodmann_fails.py",
            r"fails.py failed: ZeroDivisionError: division by zero \(.*brodmann_fails.py, line 2\)\.",
        ),
        ("brodmann_broken.py", r"broken.py failed: SyntaxError: invalid syntax \(brodmann_broken.py, line 1\)\."),
        ("json.py", "has the same name as another module, json: rename it"),
        ("brodmann_absent.py", "expected a Python file that exists, or the name of a module"),
        ("notes.txt", "expected a Python file that exists, or the name of a module"),
    ):
        os.environ[VARIABLE] = str(tmp_path / name)
        with pytest.raises(BrodmannError, match=wording):
            import_extensions()
    os.environ[VARIABLE] = "brodmann_no_module"
    with pytest.raises(BrodmannError, match=r"failed: ModuleNotFoundError: No module named 'brodmann_no_module'\."):
        import_extensions()
    (tmp_path / "json.py").unlink()
    assert command(tmp_path, "--import").stderr.startswith("error: --import needs a Python file or a module")


def test_imports_may_stand_behind_the_command(mine: Path) -> None:
    found = command(mine.parent, "train", "digits", "--optimiser", "downhil", f"--import={mine.name}")
    assert "Did you mean 'downhill'?" in found.stderr


def test_a_change_of_what_a_file_imports_from_its_folder_is_a_change_of_its_code(tmp_path: Path) -> None:
    sources = {
        "brodmann_top.py": "import neighbour, json\n\ndef later():\n    from brodmann_parts.late import ONE\n",
        "neighbour.py": "from brodmann_parts import near\nimport brodmann_top\n",
        "brodmann_parts/__init__.py": "",
        "brodmann_parts/near.py": "from . import far\nfrom .far import ONE\n",
        "brodmann_parts/far.py": "ONE = 1\n",
        "brodmann_parts/late.py": "def\n",
    }
    unrelated = {"brodmann_other.py": "", "brodmann_parts/other.py": "", "json.txt": ""}
    (tmp_path / "brodmann_parts").mkdir()
    for name, text in (sources | unrelated).items():
        (tmp_path / name).write_text(text)
    add_extension(str(tmp_path / "brodmann_top.py"))
    (before,) = import_extensions().values()
    for name in unrelated:
        (tmp_path / name).write_text("# changed\n")
        assert set(import_extensions().values()) == {before}, name
    for name, text in sources.items():
        (tmp_path / name).write_text(text + "# changed\n")
        assert set(import_extensions().values()) != {before}, name
        (tmp_path / name).write_text(text)
    assert set(import_extensions().values()) == {before}


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    (tmp_path / "brodmann_counted.py").write_text(
        "import os\nos.environ['COUNTED'] = os.environ.get('COUNTED', '') + '1'\n"
    )
    os.environ.pop("COUNTED", None)
    add_extension(str(tmp_path / "brodmann_counted.py"))
    add_extension(str(tmp_path / "brodmann_counted.py"))
    first = import_extensions()
    assert import_extensions() == first
    assert len(first) == 1
    assert os.environ.pop("COUNTED") == "1"
