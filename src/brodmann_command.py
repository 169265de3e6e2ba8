"""The command ``brodmann``: imports the package, which takes seconds, and runs it.

It lies outside of the package, whose import would come first otherwise.
"""

import os
import signal
from typing import Any


def main() -> None:
    """Runs the command line; Ctrl-C ends it quietly while Python still imports, too."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # else it is ignored, as under nohup
        signal.signal(signal.SIGINT, _end)
    from brodmann.cli import main as run

    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    run()


def _end(number: int, _: Any) -> None:
    """Ends the process at once: an exception could be caught, or turned into another one, by what is being imported."""
    os._exit(128 + number)
