"""Sources: the files that a user's code consists of, by what their import statements name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def sources_of(file: Path, root: Path) -> list[Path]:
    """Returns a file and those below ``root`` that it imports, itself or through others.

    They are read, not imported: what a process has imported so far, or imports inside a function, makes no difference.

    Args:
        file: A Python file.
        root: Folder in which names of modules begin.
    """
    found: set[Path] = set()
    left = [file]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [other for name in _named(path, root) for other in _files(name, root)]
    return sorted(found)


def _named(file: Path, root: Path) -> Iterator[list[str]]:
    """Yields the names in a file that may be modules, part by part."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # whoever imports it is told
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = file.relative_to(root).parts[: -node.level] if node.level else ()
            module = [*folder, *(node.module or "").split(".")]
            yield from ([*filter(None, module), alias.name] for alias in node.names)


def _files(name: list[str], root: Path) -> Iterator[Path]:
    """Yields the files of a module below ``root``, and of the packages around it."""
    for end in range(1, len(name) + 1):
        place = root.joinpath(*name[:end])
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())
