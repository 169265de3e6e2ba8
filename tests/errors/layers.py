"""What is said of layers and containers of layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from brodmann import (
    SGD,
    AreaLinear,
    Constant,
    Context,
    Direct,
    KolenPollack,
    Local,
    Product,
    Residual,
    Routed,
    Router,
    Sequential,
    mlp,
)
from brodmann.feedback import Shape
from brodmann.layers import Elman, Images


def learn(layer: Sequential | Routed | AreaLinear | Residual, x: torch.Tensor, outputs: int) -> None:
    y, trace = layer.trace(x, Context(lr=0.1))
    layer.learn(trace, torch.zeros(*y.shape[:-1], outputs), Context(lr=0.1))


def learn_with_output_error(rows: int) -> None:
    layer = AreaLinear(4, 2, areas=1, feedback=lambda shape: Direct(shape, outputs=2))
    _, trace = layer.trace(torch.zeros(3, 4), Context())
    layer.learn(trace, torch.zeros(3, 2), Context(output_error=torch.zeros(rows, 2) if rows else None))


def route_of_other_rows() -> None:
    layer = AreaLinear(4, 2, areas=2, router=None)
    route = Router(4, 2).route(torch.randn(5, 4))
    layer.trace(torch.randn(3, 4), Context(route=route))


OTHER_NUMBERS = (
    "Expected an input of torch.float32, the dtype of the weights, got {}: convert it with x.to(torch.float32), or "
    "the network with .to(...)."
)

WITH_BATCH_NORM = (
    "Local takes operations that treat each sample by itself, but a batch norm mixes the samples of a batch: use "
    "brodmann.BatchNorm(features), a layer of its own, or brodmann.RMSNorm()."
)

WITHOUT_FEEDBACK = (
    "Layer {} sends no error down, but layers below it learn: give an AreaLinear a feedback path, give a builder "
    "lowest=False, and let a layer of your own return the error from `learn`, as torch.zeros_like(x) if it computes "
    "none. A layer of your own whose parameters never change should set moves = False."
)

NO_ROUTER = "This AreaLinear has no router of its own: put it into a Routed, or give it one."

CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: AreaLinear(4, 0), "Expected out_features to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(0, 2), "Expected in_features to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(4, 2, areas=0), "Expected areas to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(4, 2, shared="on"), "Expected shared to be one of learned, frozen, off, got 'on'."),
    (
        lambda: AreaLinear(4, 2, storage=torch.float16),
        "Unknown storage 'float16'. Did you mean 'bfloat16'? Choose one of: bfloat16.",
    ),
    (
        lambda: AreaLinear(4, 3, areas=True),
        "Expected areas to be a whole number of at least 1, got True.",
    ),
    (lambda: AreaLinear(4, 2, pooling=-1.0), "Expected pooling to be a number of at least 0, got -1.0."),
    (lambda: AreaLinear(4, 2, start_scale=-1.0), "Expected start_scale to be a number of at least 0, got -1.0."),
    (
        lambda: KolenPollack(Shape(4, 2, 1, True, None, SGD()), start="same"),
        "Unknown start 'same'. Choose one of: equal, independent, mirrored.",
    ),
    (
        lambda: AreaLinear(4, 2, feedback=partial(KolenPollack, per_area="no")),
        "Expected per_area to be True or False, got 'no'.",
    ),
    (
        lambda: AreaLinear(4, 2, feedback="random"),  # type: ignore[arg-type]
        "Expected feedback to be a class, or a functools.partial of one, got 'random'.",
    ),
    (
        lambda: AreaLinear(4, 2, update="adam"),  # type: ignore[arg-type]
        "Expected update to be a rule such as Adam(), got 'adam'.",
    ),
    (
        lambda: AreaLinear(4, 2, router=object),  # type: ignore[arg-type]
        "Expected router to be a class that takes (in_features, areas, update=...), got <class 'object'> (too many "
        "positional arguments).",
    ),
    (lambda: AreaLinear(4, 2)(torch.zeros(3, 5)), "Expected an input of shape (..., 4), got (3, 5)."),
    (lambda: AreaLinear(4, 2).trace(torch.zeros(5), Context()), "Expected an input of shape (..., 4), got (5,)."),
    (lambda: AreaLinear(4, 2)(torch.zeros(3, 4).double()), OTHER_NUMBERS.format("torch.float64")),
    (lambda: AreaLinear(4, 2).trace(torch.zeros(3, 4).byte(), Context()), OTHER_NUMBERS.format("torch.uint8")),
    (lambda: AreaLinear(4, 2, router=None)(torch.zeros(3, 4)), NO_ROUTER),
    (lambda: AreaLinear(4, 2, router=None).trace(torch.zeros(3, 4), Context()), NO_ROUTER),
    (
        lambda: AreaLinear(4, 2, router=None).split(0),
        "This layer has no router of its own: call split or merge on the Routed that holds it.",
    ),
    (
        lambda: AreaLinear(4, 2, router=None).merge(0, 1),
        "This layer has no router of its own: call split or merge on the Routed that holds it.",
    ),
    (
        route_of_other_rows,
        "The shared route has 5 rows, but this layer got 3: keep the number of rows inside a Routed, or give the "
        "layer an input of shape (samples, ..., in).",
    ),
    (
        lambda: learn_with_output_error(0),
        "Direct feedback needs the error of one output: train through Network.learn, or set output_error in the "
        "Context.",
    ),
    (
        lambda: learn_with_output_error(2),
        "Direct feedback was built for a layer of 1 rows for each output, got 3 rows and 2 output errors: build it "
        "with partial(Direct, outputs=2, rows=...).",
    ),
    (
        lambda: Local(partial(nn.functional.dropout, p=0.3)),
        "Local calls a function as it is, at inference too, but dropout is in training mode by default: use "
        "a module such as nn.Dropout(0.5), which Local switches.",
    ),
    (
        lambda: Local(nn.LayerNorm(4)),
        "Local takes operations without parameters or buffers; LayerNorm holds 2. Use elementwise_affine=False, "
        "affine=False, or an AreaLinear.",
    ),
    (
        lambda: Local(nn.Sequential(nn.BatchNorm1d(4, affine=False, track_running_stats=False))),
        WITH_BATCH_NORM,
    ),
    (
        lambda: Local(nn.BatchNorm1d(4)),
        WITH_BATCH_NORM,
    ),
    (
        lambda: Local(nn.Sequential(nn.LeakyReLU(inplace=True))),
        "Local takes operations that leave their input unchanged, but Sequential overwrites it: leave inplace=True "
        "out.",
    ),
    (
        lambda: learn(Sequential(Local(nn.functional.relu_)), torch.zeros(3, 4), 4),
        "Local cannot carry errors through relu_: a leaf Variable that requires grad is being used in an in-place "
        "operation. Expected an operation that takes one tensor, leaves it as it was, and returns another that PyTorch "
        "can follow.",
    ),
    (
        lambda: learn(Sequential(Local(lambda x: x + torch.ones(5))), torch.zeros(3, 4), 4),
        "<lambda> does not accept its input, of shape (3, 4): The size of tensor a (4) must match the size of tensor b "
        "(5) at non-singleton dimension 1. Give samples of a length, of kinds of numbers and of values that it takes.",
    ),
    (
        lambda: learn(Sequential(Local(lambda x: (x, x))), torch.zeros(3, 4), 4),  # type: ignore[arg-type,return-value]
        "Local cannot carry errors through <lambda>: it returned tuple. Expected an operation that takes one tensor, "
        "leaves it as it was, and returns another that PyTorch can follow.",
    ),
    (
        lambda: Product(torch.mul, torch.ones(3, 2), storage=torch.int8),
        "Unknown storage 'int8'. Choose one of: bfloat16.",
    ),
    (
        lambda: Constant(torch.ones(3), form=(2,)),
        "Expected form to be a shape of 3 numbers, as (3,) is, got (2,).",
    ),
    (lambda: Images(1, 0, 4), "Expected height to be a whole number of at least 1, got 0."),
    (
        lambda: Elman(nn.PReLU()),
        "Expected an activation without parameters, such as torch.tanh or nn.ReLU(), got PReLU(num_parameters=1).",
    ),
    (
        lambda: Sequential(AreaLinear(4, 4), nn.ReLU()),  # type: ignore[arg-type]
        "Layer 1 of Sequential is a ReLU, which cannot learn: wrap parameter-free operations in Local, use "
        "AreaLinear for linear maps, or convert a whole network with from_torch.",
    ),
    (
        lambda: Sequential(AreaLinear(4, 4), AreaLinear(4, 2, feedback=None)),
        WITHOUT_FEEDBACK.format("1 (AreaLinear)"),
    ),
    (
        lambda: Sequential(AreaLinear(4, 4), Local(nn.ReLU()), Sequential(AreaLinear(4, 2, feedback=None))),
        WITHOUT_FEEDBACK.format("2 (Sequential)"),
    ),
    (
        lambda: Residual(AreaLinear(4, 2)).trace(torch.zeros(3, 4), Context()),
        "Expected a residual body to return the shape of its shortcut, (3, 4), got (3, 2): make one fit the other, "
        "with a shortcut layer if there is none.",
    ),
    (lambda: Residual(mlp(4, 4), alpha=float("nan")), "Expected alpha to be a finite number, got nan."),
    (
        lambda: Routed(Router(4, 3), AreaLinear(4, 2, areas=2, router=None)),
        "The router has 3 areas, but a layer of its body has 2: make them equal.",
    ),
    (
        lambda: Routed(nn.Linear(4, 2), mlp(4, 2, areas=1)),  # type: ignore[arg-type]
        "Expected the router of Routed to be a Router, got Linear.",
    ),
]
