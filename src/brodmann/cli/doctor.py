"""`brodmann doctor`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from brodmann.doctor import diagnose

from .output import say


@dataclass(frozen=True)
class Doctor:
    """Tells what runs on this machine, what does not, and why."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Prints a line per finding."""
        findings = diagnose()
        if self.json:
            print(json.dumps(findings))
            return
        for name, finding in findings.items():
            say(f"{name:17} {finding}")
