"""`brodmann doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from ..doctor import diagnose
from .output import say, say_json


@dataclass(frozen=True)
class Doctor:
    """Tells what runs on this machine, what does not, and why."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Prints a line per finding."""
        findings = diagnose()
        if self.json:
            say_json(findings)
            return
        for name, finding in findings.items():
            say(f"{name:17} {finding}")
