"""What is said of routers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from brodmann import AreaLinear, Router, Sequential, mlp
from brodmann.feedback import Direct, FixedRandom, LeastChange, Transpose
from brodmann.layers import Routed
from brodmann.routing import Recruiting


def split_router() -> Router:
    return Router(4, 3, cells=6)


CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: Router(0, 3), "Expected in_features to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 0, cells=0), "Expected areas to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 3, dimension=0), "Expected dimension to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 3, cells=2), "Expected cells to be a whole number of at least 3, got 2."),
    (lambda: Router(4, 3, temperature=0.0), "Expected temperature to be a number above 0, got 0.0."),
    (lambda: Router(4, 3, balance_rate=-1.0), "Expected balance_rate to be a number of at least 0, got -1.0."),
    (
        lambda: Router(4, 2, balance_rate=1e300),
        "Expected balance_rate to be at most 2, the range of a cosine, got 1e+300.",
    ),
    (lambda: Router(4, 2, balance_rate=math.nan), "Expected balance_rate to be a number of at least 0, got nan."),
    (lambda: Router(4, 2, learned="no"), "Expected learned to be True or False, got 'no'."),  # type: ignore[arg-type]
    (
        lambda: Router(4, 3, feedback="transpose"),  # type: ignore[arg-type]
        "Expected feedback to be a class, or a functools.partial of one, got 'transpose'.",
    ),
    (
        lambda: Router(4, 3, feedback=partial(Direct, outputs=2)),
        "Direct brings errors from the network's output, which say nothing of gates: give the router another feedback, "
        "such as KolenPollack.",
    ),
    (
        lambda: Router(4, 3, learned=False, feedback=partial(LeastChange, path=FixedRandom)),
        "This LeastChange starts apart from the projection, and as that does not learn (learned=False), the two would "
        "never align: let it learn, leave the router's feedback out, or give one that starts aligned, such as "
        "partial(KolenPollack, start='mirrored'), by name 'kolen-pollack-mirrored'.",
    ),
    (
        lambda: AreaLinear(4, 3, router=partial(Router, feedback=Transpose)),
        "The feedback of a router sends down the error of gates, but nothing that follows this one is gated: give "
        "gated=True, or leave the router's feedback out.",
    ),
    (
        lambda: Routed(Router(4, 16, feedback=Transpose), Sequential(AreaLinear(4, 3, router=None))),
        "The feedback of a router sends down the error of gates, but nothing that follows this one is gated: give "
        "gated=True, or leave the router's feedback out.",
    ),
    (
        lambda: mlp(4, 3, gated=True, router={"feedback": "nothing"}),
        "Unknown feedback 'nothing'. Choose one of: direct, kolen-pollack, kolen-pollack-equal, "
        "kolen-pollack-mirrored, kolen-pollack-noisy, kolen-pollack-per-area, random, sign, transpose. To use one of "
        "your own, register it in brodmann.builders.FEEDBACKS, in a file that `brodmann --import FILE` loads. In "
        "Python, pass the object itself "
        "where that is accepted: worker processes know only the names of what they import.",
    ),
    (
        lambda: Router(4, 3, partition="manul"),
        "Unknown partition 'manul'. Did you mean 'manual'? Choose one of: fixed, growing, manual.",
    ),
    (
        lambda: Router(4, 3, partition="growing", conflict={"evidnce": 3}),
        "Unknown setting of conflict 'evidnce'. Did you mean 'evidence'? Choose one of: certainty, evidence, "
        "opposition.",
    ),
    (
        lambda: split_router().split(0, [0, 3]),
        "Cannot split area 0, whose cells are [0, 3]: the new area must take some of them and leave some, got [0, 3].",
    ),
    (
        lambda: split_router().split(0, [1]),
        "Cannot split area 0, whose cells are [0, 3]: the new area must take some of them and leave some, got [1].",
    ),
    (
        lambda: split_router().split(0, []),
        "Cannot split area 0, whose cells are [0, 3]: the new area must take some of them and leave some, got [].",
    ),
    (
        lambda: split_router().split(0),
        "All 3 areas are in use: merge two first, or give the router more areas.",
    ),
    (lambda: split_router().split(3), "Area 3 does not exist: expected 0 to 2."),
    (lambda: split_router().split(-1), "Area -1 does not exist: expected 0 to 2."),
    (lambda: split_router().merge(1, 1), "Cannot merge areas 1 and 1: expected two different areas that hold cells."),
    (
        lambda: Router(4, 3, cells=6, partition="manual").merge(0, 2),
        "Cannot merge areas 0 and 2: expected two different areas that hold cells.",
    ),
    (
        lambda: Router(4, 3, cells=6, partition="manual").merge(2, 0),
        "Cannot merge areas 2 and 0: expected two different areas that hold cells.",
    ),
    (lambda: Router(4, 2, update="sgd"), "Expected update to be a rule such as Adam(), got 'sgd'."),  # type: ignore
    (lambda: Router(4, 2, update=0), "Expected update to be a rule such as Adam(), got 0."),  # type: ignore[arg-type]
    (
        lambda: Recruiting(4, 2, novelty="a"),  # type: ignore[arg-type]
        "Expected novelty to be a number between -1 and 1, got a.",
    ),
]
