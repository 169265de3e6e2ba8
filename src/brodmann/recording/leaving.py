"""Why a recording is left, and an ordinary call made."""

from __future__ import annotations


class DoesNotFit(Exception):  # noqa: N818  # no error: what was recorded does not fit these inputs
    """What was recorded goes another way for these inputs. Nothing has moved yet."""


class Outdated(DoesNotFit):
    """What was recorded goes another way from now on. Nothing has moved yet."""


def ask_again(part: object, question: str, answer: bool) -> None:
    """Raises an `Outdated` if a question is answered differently than before."""
    if getattr(part, question) != answer:
        raise Outdated
