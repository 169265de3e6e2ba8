"""The Python of the README and the guide runs as it is printed, and prints what they say; links lead somewhere."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from brodmann.bench import RECIPES
from brodmann.bench.tasks import TASKS
from brodmann.builders import ACTIVATIONS, BUILDERS, FEEDBACKS
from brodmann.losses import LOSSES
from brodmann.training import SCHEDULES
from brodmann.updates import UPDATES

ROOT = Path(__file__).parent.parent
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "docs" / "guide.md", ROOT / "docs" / "streams.md", *GUIDE]
EVERY = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *GUIDE]
NOW = [page for page in EVERY if page.name != "log.md"]
"""Pages that say what is there now, not what was."""
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NUMBER = r"-?\d+\.\d+"
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
"""What torchrun tells a program that it starts in one process."""
OTHER_TOOLS = {"docs/guide/other-tools.md": ("lightning", "optuna", "datasets", "pandas")}
"""What a page shows how to use, and the package does not need: where one is not installed, its Python is not run."""
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def said_after(block: str) -> list[str]:
    """What a page says that a block of Python prints: in the line below it, or as a block of its own after `prints`."""
    text = block.replace("\n\n", "\n")
    lines = re.match(r"\nprints (`[^`]+`(?: and `[^`]+`)*)", text)
    if lines:
        return re.findall(r"`([^`]+)`", lines[1])
    whole = re.match(r"\nprints\n```\n(.*?)\n```", text, re.DOTALL)
    return whole[1].split("\n") if whole else []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_python_runs_and_prints_what_is_said(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text to the letter, numbers but for what another machine's rounding makes of a training."""
    for tool in OTHER_TOOLS.get(name_of(page), ()):
        pytest.importorskip(tool)
    _, *blocks = re.split(r"```python\n", page.read_text())
    monkeypatch.chdir(tmp_path)
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    names: dict[str, object] = {"__name__": "__main__"}
    registries: list[dict[str, Any]] = [ACTIVATIONS, BUILDERS, FEEDBACKS, LOSSES, RECIPES, SCHEDULES, TASKS, UPDATES]
    before = [dict(registry) for registry in registries]
    try:
        for block in blocks:
            code, text = block.split("```", 1)
            exec(compile(code, str(page), "exec"), names)
            printed = capsys.readouterr().out
            for line in said_after(text):
                pattern = re.escape(re.sub(NUMBER, "@", line.removesuffix("..."))).replace("@", f"({NUMBER})")
                found = re.search(pattern, printed)
                assert found, f"{line} is not what was printed: {printed}"
                for ours, theirs in zip(found.groups(), re.findall(NUMBER, line), strict=True):
                    assert float(ours) == pytest.approx(float(theirs), abs=0.05, rel=0.1), line
    finally:  # what a page registers is none of other tests' business
        for registry, known in zip(registries, before, strict=True):
            registry.clear()
            registry.update(known)


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/streams.md", "docs/guide/training.md"])
def test_pages_that_show_the_library_hold_python(page: str) -> None:
    """Without this, a page whose blocks are marked in another way would be one that runs."""
    assert "```python\n" in (ROOT / page).read_text()


def anchors_of(page: Path) -> set[str]:
    """The names by which a page's headings can be linked to, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCED.sub("", page.read_text()), re.MULTILINE):
        shown = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", heading)  # a link's text
        name = re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", known) is not None for known in anchors)
        anchors.add(f"{name}-{again}" if again else name)
    return anchors


def links_of(page: Path) -> list[tuple[str, str]]:
    """Address and anchor of every link of a page to a page of ours, itself (an empty address) included."""
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text()))
    return re.findall(r"\]\(([^)#:\s]*)#?([^):\s]*)\)", text)


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A *word*, `code` & [a link](x.md)\n## Twice\n```\n# a comment\n```\n## Twice\n## Not-twice_1\n")
    assert anchors_of(page) == {"a-word-code--a-link", "twice", "twice-1", "not-twice_1"}


def is_there(name: str) -> bool:
    """Whether something can be imported by its full name, as in `brodmann.training.Trainer.lr`."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_names_of_the_package_and_of_its_files_are_there() -> None:
    missing = []
    for page in (*NOW, *SOURCES, ROOT / "pyproject.toml"):
        text = page.read_text()
        names = re.findall(r"`(brodmann(?:\.\w+)+)", text)
        files = re.findall(r"""[`"]((?:src|tests|benchmarks|docs)/[\w/.-]+)[`"]""", text)
        missing += [f"{name_of(page)}: {name}" for name in names if not is_there(name)]
        missing += [f"{name_of(page)}: {name}" for name in files if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", EVERY, ids=name_of)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for address, anchor in links_of(page):
        target = (page.parent / address) if address else page
        assert target.exists(), f"{page.name}: {address}"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name}: {address}#{anchor}"


def test_the_first_page_of_the_guide_leads_to_every_other() -> None:
    front = ROOT / "docs" / "guide.md"
    linked = {(front.parent / address).resolve() for address, _ in links_of(front)}
    assert GUIDE
    assert not [page.name for page in GUIDE if page.resolve() not in linked]


@pytest.mark.parametrize("page", GUIDE, ids=name_of)
def test_every_page_of_the_guide_is_short_and_says_where_to_go_next(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert len(lines) <= 250
    assert lines[-1].startswith("Next: ")
    assert "(../guide.md)" in lines[-1]
