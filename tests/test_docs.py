"""The Python of the README and the guide runs as it is printed."""

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


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/streams.md"])
def test_every_block_of_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    registries: list[dict[str, Any]] = [ACTIVATIONS, BUILDERS, FEEDBACKS, RECIPES, SCHEDULES, UPDATES]
    before = [dict(registry) for registry in registries]
    try:
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    finally:  # what a page registers is none of other tests' business
        for registry, known in zip(registries, before, strict=True):
            registry.clear()
            registry.update(known)


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
