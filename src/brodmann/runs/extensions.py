"""Extensions: a user's Python files or modules, imported for what they register.

The environment variable ``BRODMANN_IMPORT`` names them, so that every process of a command has them, the workers of a
benchmark too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

from ..errors import BrodmannError
from .sources import sources_of

VARIABLE = "BRODMANN_IMPORT"


def add_extension(name: str) -> None:
    """Adds a file or a module to those that this process and its children import."""
    if _is_file_name(name):
        name = str(Path(name).resolve())
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*_named(), name]))


def import_extensions() -> dict[str, str]:
    """Imports what ``BRODMANN_IMPORT`` names, with ``os.pathsep`` between them; what was imported before stays.

    Returns:
        Each name with a digest of its source, and of what that imports from its own folder, by which results of
        different code can be told apart.

    Raises:
        BrodmannError: One is missing, fails, or has the name of another module.
    """
    return {name: _digest(_imported(name)) for name in _named()}


def _named() -> list[str]:
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def _is_file_name(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _imported(name: str) -> ModuleType:
    try:
        return _of_file(Path(name)) if _is_file_name(name) else importlib.import_module(name)
    except BrodmannError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        own = [place for place in traceback.extract_tb(error.__traceback__)[2:] if "importlib" not in place.filename]
        where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        raise BrodmannError(f"Importing {name} failed: {type(error).__name__}: {error}{where}.") from error


def _of_file(path: Path) -> ModuleType:
    """Imports a file under its own name, with its folder on the path, as a script would find its neighbours."""
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None:
        if getattr(known, "__file__", None) == str(path):
            return known
        raise BrodmannError(f"{path} has the same name as another module, {path.stem}: rename it.")
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.suffix == ".py" else None
    if spec is None or spec.loader is None or not path.is_file():
        raise BrodmannError(f"Cannot import {path}: expected a Python file that exists, or the name of a module.")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def _digest(module: ModuleType) -> str:
    named = getattr(module, "__file__", None)
    if not named:
        return ""
    file = Path(named)
    depth = module.__name__.count(".") + (file.name == "__init__.py")
    root = file.parents[depth]
    files = [file] if _is_installed(root) else sources_of(file, root)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _is_installed(folder: Path) -> bool:
    """Whether everybody's packages lie in a folder: those beside a module are not the user's."""
    return str(folder) in sysconfig.get_paths().values()
