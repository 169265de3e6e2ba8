"""Plants faults, one at a time, into a copy of the package and checks that the oracles find each.

Run: python tests/mutants.py. Exit status 1 if one survives, 2 if a text to be changed is not found exactly once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTANTS = [
    ("updates.py", "factors.add_to(weight, keep=keep, scale=-lr)", "factors.add_to(weight, keep=keep, scale=lr)", "sign"),
    ("updates.py", "keep = 1.0 - lr * decay", "keep = 1.0", "a forgotten decay"),
    ("updates.py", "weight.mul_(1.0 - lr * decay)", "weight.mul_(1.0 - decay)", "a decay without the rate"),
    ("updates.py", "-lr / (1.0 - self.beta1**steps)", "-lr", "no bias correction"),
    ("areas.py", "slot, (_, start, stop) in zip(slots,", "slot, (_, start, stop) in zip(slots[::-1],", "another area learns"),
    ("areas.py", "Factors(rows, x[start:stop])", "Factors(rows, x[: stop - start])", "the wrong samples' inputs"),
    ("areas.py", "tensor[target].copy_(tensor[source])", "self.weight.value[target].copy_(self.weight.value[source])", "state not cloned"),
    ("areas.py", "self.slot[self.slot == last] = gap", "pass", "a merge that loses the moved area"),
    ("areas.py", "new[len(old) :] = old[0]", "new[len(old) :] = 0", "areas that forget their origin"),
    ("routing.py", "scale * (chosen - route.probabilities)", "scale * (route.probabilities - chosen)", "projection's sign"),
    ("routing.py", "probabilities.gather(1, cell[:, None])[:, 0]\n        area", "probabilities.amax(1) ** 2\n        area", "the gate of no cell"),
    ("routing.py", "Factors(delta, route.x)", "Factors(delta, route.x.flip(0))", "the wrong sample's projection"),
    ("routing.py", "- along) / length", ") / length", "a cosine without its norm"),
    ("layers.py", "groups.unsort((delta * trace.own).sum(1))", "(delta * trace.own).sum(1)", "usefulness in sorted order"),
    ("layers.py", "part_delta = groups.sort(route.gate)[:, None] * delta", "part_delta = route.gate[:, None] * delta", "gates of other samples"),
    ("layers.py", "self.alpha * error", "error", "a forgotten alpha"),
    ("layers.py", "area_decay = decay + self.pooling", "area_decay = decay", "a forgotten pooling"),
    ("layers.py", "error if through is None else error + through", "error if through is None else through", "no residual error"),
    ("feedback.py", "self.shared.step(0, Factors(driver, signal.x), lr, shared_decay)", "self.shared.step(0, Factors(driver, signal.x), lr, 0.0)", "feedback without decay"),
    ("feedback.py", "return below.mul_(self.magnitude)", "return below.mul_(-self.magnitude)", "signs turned"),
]  # fmt: skip


def main() -> int:
    """Prints a line per mutant."""
    survivors = 0
    with tempfile.TemporaryDirectory() as place:
        for file, old, new, why in MUTANTS:
            copy = Path(place) / "src"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(ROOT / "src", copy)
            target = copy / "brodmann" / file
            text = target.read_text()
            if text.count(old) != 1:
                print(f"{file}: expected this text exactly once, found it {text.count(old)} times: {old}")
                return 2
            target.write_text(text.replace(old, new))
            command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "tests/oracles"]
            environment = {**os.environ, "PYTHONPATH": str(copy)}
            run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            # Anything but a failed test (1) is no kill: a syntax error would stop the collection (2).
            killed = run.returncode == 1
            survivors += not killed
            print(f"{'killed  ' if killed else 'SURVIVED'}  {file}: {why}", flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
