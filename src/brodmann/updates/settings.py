"""Settings of the package's rules: given by name, and the learning rate is none of them."""

from __future__ import annotations

from functools import wraps
from typing import Any, TypeVar

from ..checks import check_settings
from ..errors import BrodmannError

Kind = TypeVar("Kind", bound=type)


def settings_by_name(kind: Kind) -> Kind:
    """Lets a rule's class say what to do about settings that it does not have, such as those of PyTorch's optimisers.

    Calling it raises a `BrodmannError` where Python alone would tell of numbers of arguments.
    """
    rule: Any = kind
    init = rule.__init__

    @wraps(init)
    def checked(self: Any, *unnamed: Any, **settings: Any) -> None:
        if unnamed or "lr" in settings:
            raise BrodmannError(
                f"{kind.__name__} takes its settings by name, and the learning rate is none of them: give that to the "
                "network, as in Network(body, lr=1e-3), or to a call of learn."
            )
        check_settings(kind.__name__, settings, kind)
        init(self, **settings)

    rule.__init__ = checked
    return kind
