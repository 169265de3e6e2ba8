"""The Python of the README and the guide runs as it is printed, and prints what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from brodmann.bench import RECIPES
from brodmann.builders import ACTIVATIONS, BUILDERS, FEEDBACKS
from brodmann.training import SCHEDULES
from brodmann.updates import UPDATES

ROOT = Path(__file__).parent.parent
NUMBER = r"-?\d+\.\d+"


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/streams.md"])
def test_every_block_of_python_runs_and_prints_what_is_said(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text to the letter, numbers but for what another machine's rounding makes of a training."""
    _, *blocks = re.split(r"```python\n", (ROOT / page).read_text())
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    registries: list[dict[str, Any]] = [ACTIVATIONS, BUILDERS, FEEDBACKS, RECIPES, SCHEDULES, UPDATES]
    before = [dict(registry) for registry in registries]
    try:
        for block in blocks:
            code, text = block.split("```", 1)
            exec(compile(code, page, "exec"), names)
            printed = capsys.readouterr().out
            said = re.match(r"\nprints (`[^`]+`(?: and `[^`]+`)*)", text.replace("\n\n", "\n"))
            for line in re.findall(r"`([^`]+)`", said[1] if said else ""):
                pattern = re.escape(re.sub(NUMBER, "@", line.removesuffix("..."))).replace("@", f"({NUMBER})")
                found = re.search(pattern, printed)
                assert found, f"{line} is not what was printed: {printed}"
                for ours, theirs in zip(found.groups(), re.findall(NUMBER, line), strict=True):
                    assert float(ours) == pytest.approx(float(theirs), abs=0.05, rel=0.1), line
    finally:  # what a page registers is none of other tests' business
        for registry, known in zip(registries, before, strict=True):
            registry.clear()
            registry.update(known)


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
