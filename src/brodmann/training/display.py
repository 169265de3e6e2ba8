"""Display: the console that shows progress, whose failures must not stop the training."""

from __future__ import annotations

import io
from contextlib import suppress
from importlib.util import find_spec
from typing import IO, Any, cast

from rich.console import Console


def display(stream: IO[str] | None) -> Console:
    """Returns a console on a stream, such as `sys.stderr`, that shows nothing if the stream takes nothing more."""
    # Python has no stream if the process began without it.
    file = _Forgiving(io.StringIO() if stream is None else stream)
    # In a notebook rich draws with widgets; without them it warns, which may be an error, and draws nothing.
    return Console(file=cast("IO[str]", file), force_jupyter=None if find_spec("ipywidgets") else False)


class _Forgiving:
    """A stream that drops what it cannot write: its reader is gone, its disk is full, or it was closed."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text if it can."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written if it can."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
