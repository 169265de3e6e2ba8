"""What is said of builders, designs and baselines."""

from __future__ import annotations

from collections.abc import Callable

from brodmann import Router, mlp, residual_mlp
from brodmann.baselines import Backpropagation
from brodmann.builders import build, design

CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: mlp(4, 2, width=0), "Expected width to be a whole number of at least 1, got 0."),
    (lambda: mlp(4, 2, width="8"), "Expected width to be a whole number of at least 1, got '8'."),  # type: ignore[arg-type]
    (lambda: mlp(4, 2, width=(8, 0)), "Expected width to be a whole number of at least 1, got 0."),
    (lambda: mlp(4, 2, width=()), "Expected width to be a list, one number for each hidden layer, got ()."),
    (
        lambda: mlp(4, 2, depth=4, width=(8, 6)),
        "Expected 3 linear layers, one for each width of (8, 6) and the readout, but their number is given as 4: "
        "leave it out.",
    ),
    (
        lambda: residual_mlp(4, 2, width=(8, 8)),  # type: ignore[arg-type]
        "A residual network has one width, since its blocks add to their input, got (8, 8): give one number, or leave "
        "residual out.",
    ),
    (
        lambda: Backpropagation(4, 2, depth=3, width=(8, 8), residual=True),
        "A residual network has one width, since its blocks add to their input, got (8, 8): give one number, or leave "
        "residual out.",
    ),
    (
        lambda: mlp(4, 2, activation="rely"),
        "Unknown activation 'rely'. Did you mean 'relu'? Choose one of: gelu, relu, tanh.",
    ),
    (
        lambda: mlp(4, 2, routing="net"),
        "Unknown routing 'net'. Did you mean 'network'? Choose one of: layer, network.",
    ),
    (
        lambda: residual_mlp(4, 2, depth="8"),  # type: ignore[arg-type]
        "Expected depth to be a whole number of at least 1, got '8'.",
    ),
    (
        lambda: residual_mlp(4, 2, depth=2),
        "A residual network needs a depth of at least 3 (stem, block, readout), got 2.",
    ),
    (
        lambda: residual_mlp(4, 2, depth=3, recompute="no"),  # type: ignore[arg-type]
        "Expected recompute to be True or False, got 'no'.",
    ),
    (
        lambda: mlp(4, 2, feedback="transposed"),
        "Unknown feedback 'transposed'. Did you mean 'transpose'? Choose one of: direct, kolen-pollack, "
        "kolen-pollack-equal, kolen-pollack-mirrored, kolen-pollack-noisy, kolen-pollack-per-area, random, sign, "
        "transpose.",
    ),
    (
        lambda: mlp(4, 2, feedback=3),  # type: ignore[arg-type]
        "Unknown feedback '3'. Choose one of: direct, kolen-pollack, kolen-pollack-equal, kolen-pollack-mirrored, "
        "kolen-pollack-noisy, kolen-pollack-per-area, random, sign, transpose. To use one of your own, register it in "
        "brodmann.builders.FEEDBACKS, in a file that `brodmann --import FILE` loads. In Python, pass the object itself "
        "where that is accepted: worker processes know only the names of what they import.",
    ),
    (
        lambda: mlp(4, 2, router={"lerned": False}),
        "Unknown setting of router 'lerned'. Did you mean 'learned'? Choose one of: balance_rate, cells, conflict, "
        "dimension, feedback, learned, partition, temperature.",
    ),
    (  # a setting that there is, but not of routers that recruit
        lambda: mlp(4, 2, router={"novelty": 0.4, "learned": False}),
        "Unknown setting of router with novelty 'learned'. Choose one of: dimension, novelty, temperature.",
    ),
    (
        lambda: mlp(4, 2, router=Router(4, 16)),  # type: ignore[arg-type]
        "Expected router to be a dictionary of settings, or a class from which the routers are built, got Router.",
    ),
    (lambda: mlp(4, 2, update={}), "Expected update to be a rule such as Adam(), got {}."),  # type: ignore[arg-type]
    (
        lambda: mlp(4, 2, storage="float16"),
        "Unknown storage 'float16'. Did you mean 'bfloat16'? Choose one of: bfloat16.",
    ),
    (lambda: mlp(4, 2, dropout=2.0), "Expected dropout to be a number in [0, 1), got 2.0."),
    (lambda: mlp(4, 2, gated="no"), "Expected gated to be True, False or 'last', got 'no'."),  # type: ignore[arg-type]
    (
        lambda: build({"builder": "mpl"}),
        "Unknown builder 'mpl'. Did you mean 'mlp'? Choose one of: convnet, mlp, residual_mlp, stream_mlp.",
    ),
    (
        lambda: build({"builder": "mlp", "in_features": 4, "outputs": 2, "colour": 1}),
        "The builder 'mlp' cannot use this design: got an unexpected keyword argument 'colour'.",
    ),
    (
        lambda: design("mlp", "adam"),  # type: ignore[arg-type]
        "Expected update to be a rule such as Adam(), got 'adam'.",
    ),
    (
        lambda: Backpropagation(4, 2, readout_only="no"),  # type: ignore[arg-type]
        "Expected readout_only to be True or False, got 'no'.",
    ),
]
