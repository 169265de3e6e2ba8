"""The wording of every error that the library's parts raise: what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brodmann import (
    SGD,
    Adam,
    AreaLinear,
    BinaryCrossEntropy,
    BrodmannError,
    Constant,
    Context,
    CrossEntropy,
    Direct,
    KolenPollack,
    Local,
    MeanSquaredError,
    Network,
    Product,
    Rates,
    Residual,
    Routed,
    Router,
    Sequential,
    SumOfSquares,
    mlp,
    residual_mlp,
    stream_mlp,
)
from brodmann.baselines import Backpropagation
from brodmann.builders import build, design
from brodmann.data import load
from brodmann.errors import warn
from brodmann.feedback import Shape
from brodmann.layers import Elman, Images
from brodmann.losses import Loss
from brodmann.routing import Recruiting
from brodmann.runs import RunOptions
from brodmann.telemetry import alignment, area_usage, class_conflict
from brodmann.training import Schedule, Trainer, evaluate, outputs_of, score
from brodmann.updates import Factors, UpdateRule, update_rule


def learn(layer: Sequential | Routed | AreaLinear | Residual, x: torch.Tensor, outputs: int) -> None:
    y, trace = layer.trace(x, Context(lr=0.1))
    layer.learn(trace, torch.zeros(*y.shape[:-1], outputs), Context(lr=0.1))


def misfit(areas: int = 1, shared: str = "learned") -> Network:
    layers = AreaLinear(4, 5, areas=1), AreaLinear(6, 2, areas=areas, shared=shared)
    return Network(Sequential(*layers))


def learn_with_output_error(rows: int) -> None:
    layer = AreaLinear(4, 2, areas=1, feedback=lambda shape: Direct(shape, outputs=2))
    _, trace = layer.trace(torch.zeros(3, 4), Context())
    layer.learn(trace, torch.zeros(3, 2), Context(output_error=torch.zeros(rows, 2) if rows else None))


def learn_from(target: torch.Tensor, loss: Loss | None = None) -> None:
    Network(mlp(4, 2), loss).learn(torch.zeros(3, 4), target)


def route_of_other_rows() -> None:
    layer = AreaLinear(4, 2, areas=2, router=None)
    route = Router(4, 2).route(torch.randn(5, 4))
    layer.trace(torch.randn(3, 4), Context(route=route))


class KeepsValue(UpdateRule):
    def state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"value": shape}

    def apply(self, weight: torch.Tensor, state: object, factors: Factors, lr: float, decay: float) -> None:
        weight.sub_(factors.dense(), alpha=lr)


def split_router() -> Router:
    return Router(4, 3, cells=6)


OTHER_NUMBERS = (
    "Expected an input of torch.float32, the dtype of the weights, got {}: convert it with x.to(torch.float32), or "
    "the network with .to(...)."
)
WITH_BATCH_NORM = (
    "Local takes operations that treat each sample by itself, but a batch norm mixes the samples of a batch: use "
    "brodmann.BatchNorm(features), a layer of its own, or brodmann.RMSNorm()."
)
NO_NETWORK = "Expected a Network, got Routed: put the body into one."
NO_CLASSES = "Expected targets of shape (3,), torch.int64, from 0 to 1, got "
WITHOUT_FEEDBACK = (
    "Layer {} sends no error down, but layers below it learn: give an AreaLinear a feedback path, give a builder "
    "lowest=False, and let a layer of your own return the error from `learn`, as torch.zeros_like(x) if it computes "
    "none. A layer of your own whose parameters never change should set moves = False."
)
NO_ROUTER = "This AreaLinear has no router of its own: put it into a Routed, or give it one."
CASES: list[tuple[Callable[[], object], str]] = [
    (lambda: SGD(decay=-1.0), "Expected decay to be a number of at least 0, got -1.0."),
    (lambda: SGD(decay=float("inf")), "Expected decay to be a number of at least 0, got inf."),
    (lambda: SGD(momentum=1.0), "Expected momentum to be a number in [0, 1), got 1.0."),
    (lambda: SGD(momentum=-0.1), "Expected momentum to be a number in [0, 1), got -0.1."),
    (lambda: Adam(decay=-1.0), "Expected decay to be a number of at least 0, got -1.0."),
    (lambda: Adam(beta1=1.0), "Expected beta1 to be a number in [0, 1), got 1.0."),
    (lambda: Adam(beta1=-0.5), "Expected beta1 to be a number in [0, 1), got -0.5."),
    (lambda: Adam(beta2=1.0), "Expected beta2 to be a number in [0, 1), got 1.0."),
    (lambda: Adam(beta2=-0.5), "Expected beta2 to be a number in [0, 1), got -0.5."),
    (lambda: Adam(epsilon=0.0), "Expected epsilon to be a number above 0, got 0.0."),
    (
        lambda: update_rule("adamm"),
        "Unknown update rule 'adamm'. Did you mean 'adam'? Choose one of: adam, muon, rls, sgd.",
    ),
    (
        lambda: update_rule("adam", decai=1.0),
        "Unknown setting of adam 'decai'. Did you mean 'decay'? Choose one of: beta1, beta2, decay, epsilon.",
    ),
    (
        lambda: Router(4, 3, partition="growing", conflict={"evidnce": 3}),
        "Unknown setting of conflict 'evidnce'. Did you mean 'evidence'? Choose one of: certainty, evidence, "
        "opposition.",
    ),
    (
        lambda: AreaLinear(4, 2, update=KeepsValue()),
        "KeepsValue names a buffer 'value', which is reserved or not a Python identifier: choose another name, such "
        "as 'velocity'.",
    ),
    (
        lambda: Local(nn.Sequential(nn.BatchNorm1d(4, affine=False, track_running_stats=False))),
        WITH_BATCH_NORM,
    ),
    (
        lambda: learn(Sequential(Local(nn.functional.relu_)), torch.zeros(3, 4), 4),
        "Local cannot carry errors through relu_: a leaf Variable that requires grad is being used in an in-place "
        "operation. Expected an operation that takes one tensor, leaves it as it was, and returns another that PyTorch "
        "can follow.",
    ),
    (
        lambda: learn(Sequential(Local(lambda x: (x, x))), torch.zeros(3, 4), 4),  # type: ignore[arg-type,return-value]
        "Local cannot carry errors through <lambda>: it returned tuple. Expected an operation that takes one tensor, "
        "leaves it as it was, and returns another that PyTorch can follow.",
    ),
    (
        lambda: learn_from(torch.zeros(3, dtype=torch.int64), nn.BCEWithLogitsLoss()),
        "BCEWithLogitsLoss takes a number for each of the outputs (3, 2), got classes of shape (3,): use CrossEntropy, "
        "or MeanSquaredError, which takes classes as their one-hot vectors.",
    ),
    (
        lambda: learn_from(torch.zeros(3, 5, dtype=torch.int64), nn.HuberLoss()),
        "Expected targets of shape (3, 2), like the output, got (3, 5).",
    ),
    (
        lambda: alignment(Network(mlp(4, 2)), torch.ones(0, 4), torch.zeros(0)),
        "Expected samples with one target each, got 0 samples and 0 targets.",
    ),
    *(
        (lambda look=look: look(mlp(4, 2), torch.ones(3, 4), torch.zeros(3)), NO_NETWORK)  # type: ignore[misc]
        for look in (alignment, class_conflict, evaluate, lambda network, x, _: area_usage(network, x))
    ),
    (
        lambda: area_usage(Network(mlp(4, 2)), [[0.0] * 4]),  # type: ignore[arg-type]
        "Expected x to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (lambda: Router(0, 3), "Expected in_features to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 0, cells=0), "Expected areas to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 3, dimension=0), "Expected dimension to be a whole number of at least 1, got 0."),
    (lambda: Router(4, 3, cells=2), "Expected cells to be a whole number of at least 3, got 2."),
    (lambda: Router(4, 3, temperature=0.0), "Expected temperature to be a number above 0, got 0.0."),
    (lambda: Router(4, 3, balance_rate=-1.0), "Expected balance_rate to be a number of at least 0, got -1.0."),
    (
        lambda: Router(4, 3, partition="manul"),
        "Unknown partition 'manul'. Did you mean 'manual'? Choose one of: fixed, growing, manual.",
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
    (lambda: AreaLinear(4, 0), "Expected out_features to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(0, 2), "Expected in_features to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(4, 2, areas=0), "Expected areas to be a whole number of at least 1, got 0."),
    (lambda: AreaLinear(4, 2, shared="on"), "Expected shared to be one of learned, frozen, off, got 'on'."),
    (
        lambda: AreaLinear(4, 2, storage=torch.float16),
        "Unknown storage 'float16'. Did you mean 'bfloat16'? Choose one of: bfloat16.",
    ),
    (
        lambda: mlp(4, 2, storage="float16"),
        "Unknown storage 'float16'. Did you mean 'bfloat16'? Choose one of: bfloat16.",
    ),
    (
        lambda: RunOptions(storage="bfloat16", dtype="float64").check(),
        "A separate storage works only with dtype float32: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="backprop", gated=True).check(),
        "--gated cannot be combined with the baseline 'backprop', which has no areas: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="last-layer", lr_areas=0.5).check(),
        "--lr-areas cannot be combined with the baseline 'last-layer', which has no areas: leave one of them out.",
    ),
    (
        lambda: RunOptions(rule="backprop", learn_projection=False).check(),
        "--no-learn-projection cannot be combined with the baseline 'backprop', which has no areas: leave one of them "
        "out.",
    ),
    (
        lambda: RunOptions(channels=(4,), width=64).check(),
        "--width cannot be combined with --channels: leave one of them out.",
    ),
    (lambda: AreaLinear(4, 2, pooling=-1.0), "Expected pooling to be a number of at least 0, got -1.0."),
    (lambda: AreaLinear(4, 2, start_scale=-1.0), "Expected start_scale to be a number of at least 0, got -1.0."),
    (
        lambda: KolenPollack(Shape(4, 2, 1, True, None, SGD()), start="same"),
        "Unknown start 'same'. Choose one of: equal, independent, mirrored.",
    ),
    (lambda: AreaLinear(4, 2)(torch.zeros(3, 5)), "Expected an input of shape (..., 4), got (3, 5)."),
    (lambda: AreaLinear(4, 2).trace(torch.zeros(5), Context()), "Expected an input of shape (..., 4), got (5,)."),
    (lambda: AreaLinear(4, 2)(torch.zeros(3, 4).double()), OTHER_NUMBERS.format("torch.float64")),
    (lambda: AreaLinear(4, 2).trace(torch.zeros(3, 4).byte(), Context()), OTHER_NUMBERS.format("torch.uint8")),
    (lambda: Network(mlp(4, 2))(torch.zeros(3, 4).double()), OTHER_NUMBERS.format("torch.float64")),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4).double(), torch.zeros(3, dtype=torch.int64)),
        OTHER_NUMBERS.format("torch.float64"),
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), lr=-1.0),
        "Expected lr to be a number of at least 0, got -1.0.",
    ),
    (
        lambda: Network(mlp(4, 2))(torch.zeros(3, 5)),
        "Expected an input of shape (..., 4), got (3, 5) at layer 'body.router'.",
    ),
    (  # the size that was chosen, not that with the input of ones
        lambda: Network(stream_mlp(36, 2, width=4, areas=2))(torch.zeros(3, 6, 6)),
        "Expected an input of shape (..., 36), got (3, 6, 6).",
    ),
    (
        lambda: Network(stream_mlp(6, 2, width=4, areas=1)).learn(torch.zeros(3, 5), torch.zeros(3).long()),
        "Expected an input of shape (..., 6), got (3, 5).",
    ),
    (lambda: misfit()(torch.zeros(3, 4)), "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'."),
    (
        lambda: misfit(areas=2, shared="off").learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'.",
    ),
    (
        lambda: misfit(shared="off").learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64)),
        "Expected an input of shape (..., 6), got (3, 5) at layer 'body.layers.1'.",
    ),
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
        lambda: Local(nn.BatchNorm1d(4)),
        WITH_BATCH_NORM,
    ),
    (
        lambda: Local(nn.Sequential(nn.LeakyReLU(inplace=True))),
        "Local takes operations that leave their input unchanged, but Sequential overwrites it: leave inplace=True "
        "out.",
    ),
    (
        lambda: AreaLinear(4, 3, areas=True),
        "Expected areas to be a whole number of at least 1, got True.",
    ),
    (
        lambda: Product(torch.mul, torch.ones(3, 2), storage=torch.int8),
        "Unknown storage 'int8'. Choose one of: bfloat16.",
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
    (
        lambda: Routed(Router(4, 3), AreaLinear(4, 2, areas=2, router=None)),
        "The router has 3 areas, but a layer of its body has 2: make them equal.",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
        "Cannot learn from an empty batch: expected at least one sample.",
    ),
    (lambda: learn_from(torch.tensor([0, 1, 5])), NO_CLASSES + "0 to 5."),
    (lambda: learn_from(torch.tensor([0, -1, 1])), NO_CLASSES + "-1 to 1."),
    (lambda: learn_from(torch.zeros(3, 2, dtype=torch.long)), NO_CLASSES + "shape (3, 2)."),
    (
        lambda: learn_from(torch.zeros(3)),
        NO_CLASSES
        + (
            "torch.float32: convert class numbers with .long(), use nn.CrossEntropyLoss() for probabilities, "
            "BinaryCrossEntropy for samples of several labels, and MeanSquaredError for real targets."
        ),
    ),
    (lambda: learn_from(torch.tensor([0, 1, 5]), SumOfSquares()), NO_CLASSES + "0 to 5."),
    (
        lambda: learn_from(torch.zeros(3), SumOfSquares()),
        "Expected targets of shape (3, 2), like the output, got (3,).",
    ),
    (
        lambda: learn_from(torch.zeros(3, 1), MeanSquaredError()),
        "Expected targets of shape (3, 2), like the output, got (3, 1).",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(3, dtype=torch.long), torch.ones(2)),
        "Expected a weight for each sample, got 2 for 3 samples.",
    ),
    (
        lambda: Network(mlp(4, 2))(np.zeros((3, 4), dtype=np.float32)),
        "Expected x to be a tensor, got ndarray: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), torch.zeros(2, dtype=torch.long)),
        "Expected as many targets as samples, got 2 for 3.",
    ),
    (
        lambda: outputs_of(nn.Identity(), torch.ones(3, 2), rows=0),
        "Expected rows to be a whole number of at least 1, got 0.",
    ),
    (lambda: score([1.0], [1.0]), "Expected outputs to be a tensor, got list: convert it with torch.as_tensor(...)."),  # type: ignore
    (lambda: Router(4, 2, update="sgd"), "Expected update to be a rule such as Adam(), got 'sgd'."),  # type: ignore
    (lambda: Router(4, 2, update=0), "Expected update to be a rule such as Adam(), got 0."),  # type: ignore[arg-type]
    (lambda: mlp(4, 2, update={}), "Expected update to be a rule such as Adam(), got {}."),  # type: ignore[arg-type]
    (
        lambda: AreaLinear(4, 2, router=object),  # type: ignore[arg-type]
        "Expected router to be a class that takes (in_features, areas, update=...), got <class 'object'> (too many "
        "positional arguments).",
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
    (lambda: mlp(4, 2, width=0), "Expected width to be a whole number of at least 1, got 0."),
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
        "dimension, learned, partition, temperature.",
    ),
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
        "Expected width to be a whole number of at least 1, got (8, 8).",
    ),
    (
        lambda: Backpropagation(4, 2, depth=3, width=(8, 8), residual=True),
        "Expected width to be a whole number of at least 1, got (8, 8).",
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
        lambda: build({"builder": "mpl"}),
        "Unknown builder 'mpl'. Did you mean 'mlp'? Choose one of: convnet, mlp, residual_mlp, stream_mlp.",
    ),
    (
        lambda: build({"builder": "mlp", "in_features": 4, "outputs": 2, "colour": 1}),
        "The builder 'mlp' cannot use this design: got an unexpected keyword argument 'colour'.",
    ),
    (
        lambda: Network(mlp(4, 2))(torch.tensor(1.0)),
        "Expected an input of shape (..., 4), or (samples, ...) of 4 numbers each, got ().",
    ),
    (
        lambda: Network.load("nowhere.safetensors"),
        "nowhere.safetensors",
    ),
    (lambda: Schedule(epochs=0), "Expected epochs to be a whole number of at least 1, got 0."),
    (lambda: Schedule(batch_size=2.5), "Expected batch_size to be a whole number of at least 1, got 2.5."),  # type: ignore[arg-type]
    (lambda: Schedule(lr=0.0), "Expected lr to be a number above 0, got 0.0."),
    (lambda: Schedule(patience=0), "Expected patience to be a whole number of at least 1, got 0."),
    (lambda: Schedule(warmup=-1), "Expected warmup to be a whole number of at least 0, got -1."),
    (
        lambda: Schedule(shape=[]),  # type: ignore[arg-type]
        "Unknown schedule '[]'. Choose one of: constant, cosine, linear. To use one of your own, register it in "
        "brodmann.training.SCHEDULES, in a file that `brodmann --import FILE` loads. In Python, pass the object itself "
        "where that is accepted: worker processes know only the names of what they import.",
    ),
    (
        lambda: AreaLinear(4, 2, feedback=partial(KolenPollack, per_area="no")),
        "Expected per_area to be True or False, got 'no'.",
    ),
    (
        lambda: Backpropagation(4, 2, readout_only="no"),  # type: ignore[arg-type]
        "Expected readout_only to be True or False, got 'no'.",
    ),
    (
        lambda: Schedule(shape="cosin"),
        "Unknown schedule 'cosin'. Did you mean 'cosine'? Choose one of: constant, cosine, linear.",
    ),
    (
        lambda: RunOptions(momentum=0.9).check(),
        "Momentum works only with --optimiser sgd: leave one of them out.",
    ),
    (lambda: RunOptions(layers=0).check(), "Expected layers to be a whole number of at least 1, got 0."),
    (lambda: RunOptions(clip=0.0).check(), "Expected clip to be a number above 0, got 0.0."),
    (lambda: RunOptions(lr_areas=-1.0).check(), "Expected lr_areas to be a number of at least 0, got -1.0."),
    (lambda: RunOptions(threads=0).check(), "Expected threads to be a whole number of at least 1, got 0."),
    (lambda: CrossEntropy(1.5), "Expected label_smoothing to be a number in [0, 1), got 1.5."),
    (lambda: mlp(4, 2, dropout=2.0), "Expected dropout to be a number in [0, 1), got 2.0."),
    (lambda: Rates(shared=math.nan), "Expected shared to be a number of at least 0, got nan."),
    (lambda: Rates(areas=-1.0), "Expected areas to be a number of at least 0, got -1.0."),
    (lambda: Rates(layers={"a": -1.0}), "Expected the rate of 'a' to be a number of at least 0, got -1.0."),
    (
        lambda: Network(mlp(4, 2, areas=1), rates={"areas": 1.0}),  # type: ignore[arg-type]
        "Expected rates to be Rates(...), got {'areas': 1.0}.",
    ),
    (
        lambda: CrossEntropy()(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64, device="meta")),
        "Expected targets on cpu, where the output is, got some on meta.",
    ),
    (
        lambda: SumOfSquares()(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64, device="meta")),
        "Expected targets on cpu, where the output is, got some on meta.",
    ),
    (
        lambda: RunOptions(residual="no", layers=3).check(),  # type: ignore[arg-type]
        "Expected residual to be True or False, got 'no'.",
    ),
    (lambda: load(5), "Expected the name of a data set, or the path of a file, got 5."),  # type: ignore[arg-type]
    (
        lambda: CrossEntropy(class_weights=torch.tensor([-1.0, 1.0])),
        "Expected class_weights that are finite and at least 0: with negative ones, training would increase the loss.",
    ),
    (
        lambda: Network(mlp(4, 2))(torch.zeros(3, 4).to_sparse()),
        "Expected x to be dense, got torch.sparse_coo: convert it with .to_dense().",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4).to_sparse(), torch.zeros(3, dtype=torch.int64)),
        "Expected x to be dense, got torch.sparse_coo: convert it with .to_dense().",
    ),
    (
        lambda: Routed(nn.Linear(4, 2), mlp(4, 2, areas=1)),  # type: ignore[arg-type]
        "Expected the router of Routed to be a Router, got Linear.",
    ),
    (lambda: Residual(mlp(4, 4), alpha=float("nan")), "Expected alpha to be a finite number, got nan."),
    (lambda: Network(mlp(4, 2), lr=10**400), "Expected lr to be a number of at least 0, got " + str(10**400) + "."),
    (
        lambda: Network(mlp(4, 2), lr=np.float16("inf")),
        "Expected lr to be a number of at least 0, got np.float16(inf).",
    ),
    (lambda: Schedule(lr=10**400), "Expected lr to be a number above 0, got " + str(10**400) + "."),
    (
        lambda: area_usage(Network(mlp(4, 2)), torch.zeros(0, 4)),
        "Expected at least one sample to count areas with, got none.",
    ),
    (lambda: Network(mlp(4, 2))([1, 2]), "Expected x to be a tensor, got list: convert it with torch.as_tensor(...)."),
    (lambda: Rates(layers={0: 0.5}), "Expected layers to be a dictionary of names and rates, got {0: 0.5}."),  # type: ignore[dict-item]
    (
        lambda: setattr(Network(mlp(4, 2)).merged(), "rates", Rates(layers={"body": 0.5})),
        "No layer of this network learns (after merged(), none does): leave rates out.",
    ),
    (
        lambda: Recruiting(4, 2, novelty="a"),  # type: ignore[arg-type]
        "Expected novelty to be a number between -1 and 1, got a.",
    ),
    (
        lambda: residual_mlp(4, 2, depth=3, recompute="no"),  # type: ignore[arg-type]
        "Expected recompute to be True or False, got 'no'.",
    ),
    (lambda: Rates(layers=0.5), "Expected layers to be a dictionary of names and rates, got 0.5."),  # type: ignore[arg-type]
    (
        lambda: Network(mlp(4, 2, areas=1), rates=Rates(layers={"layers.9": 0.0})),
        "Unknown layer 'layers.9'. Did you mean 'layers.2'? Choose one of: layers.0, layers.2.",
    ),
    (lambda: Network(mlp(4, 2), clip=math.nan), "Expected clip to be a number above 0, got nan."),
    (lambda: setattr(Network(mlp(4, 2)), "clip", -1.0), "Expected clip to be a number above 0, got -1.0."),
    (
        lambda: evaluate(Network(mlp(4, 2)), torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), rows=0),
        "Expected rows to be a whole number of at least 1, got 0.",
    ),
    (
        lambda: Router(4, 2, balance_rate=1e300),
        "Expected balance_rate to be at most 2, the range of a cosine, got 1e+300.",
    ),
    (lambda: Router(4, 2, balance_rate=math.nan), "Expected balance_rate to be a number of at least 0, got nan."),
    (lambda: Router(4, 2, learned="no"), "Expected learned to be True or False, got 'no'."),  # type: ignore[arg-type]
    (lambda: mlp(4, 2, gated="no"), "Expected gated to be True or False, got 'no'."),  # type: ignore[arg-type]
    (
        lambda: Network(nn.Linear(4, 2)),  # type: ignore[arg-type]
        "The body of a Network is a Linear, which cannot learn: wrap parameter-free operations in Local, use "
        "AreaLinear for linear maps, or convert a whole network with from_torch.",
    ),
    (
        lambda: Network(mlp(4, 2), 0.1),  # type: ignore[arg-type]
        "Expected a loss such as CrossEntropy() or MeanSquaredError(), got 0.1.",
    ),
    (
        lambda: Network(mlp(4, 2), nn.CrossEntropyLoss()).learn(
            torch.zeros(3, 4), torch.tensor([0, 1, 1]), torch.ones(3)
        ),
        "CrossEntropyLoss takes no sample weights: use CrossEntropy, BinaryCrossEntropy, MeanSquaredError, or a "
        "callable that takes (output, target, weight).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), nn.CrossEntropyLoss(reduction="none")),
        "Expected a loss that returns a tensor with one number, got shape (3,).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), lambda *given: 0.5),  # type: ignore[arg-type,return-value]
        "Expected a loss that returns a tensor with one number, got 0.5.",
    ),
    (
        lambda: BinaryCrossEntropy(torch.tensor([-1.0, 1.0])),
        "Expected pos_weight that are finite and at least 0: with negative ones, training would increase the loss.",
    ),
    (
        lambda: BinaryCrossEntropy(2.0),  # type: ignore[arg-type]
        "Expected pos_weight to be a tensor, got float: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: learn_from(torch.ones(3, 2), BinaryCrossEntropy(torch.ones(3))),
        "Expected pos_weight of shape (2,), one for each label, got (3,).",
    ),
    (
        lambda: learn_from(torch.tensor([[0, 1], [1, 2], [0, 0]]), BinaryCrossEntropy()),
        "Expected targets in [0, 1], 1 for each label that a sample has and 0 for all others, got some from 0 to 2: "
        "use CrossEntropy for numbers of classes, and MeanSquaredError for real targets.",
    ),
    (
        lambda: learn_from(torch.full((3, 2), math.nan), BinaryCrossEntropy()),
        "Expected targets in [0, 1], 1 for each label that a sample has and 0 for all others, got some from nan to "
        "nan: use CrossEntropy for numbers of classes, and MeanSquaredError for real targets.",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), BinaryCrossEntropy()),
        "Expected targets of shape (3, 2), like the output, got (3,).",
    ),
    (
        lambda: CrossEntropy(class_weights=[1.0, 2.0]),  # type: ignore[arg-type]
        "Expected class_weights to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: learn_from(torch.tensor([0, 1, 1]), CrossEntropy(class_weights=torch.ones(3))),
        "Expected class_weights of shape (2,), one for each class, got (3,).",
    ),
    (lambda: Schedule(seed=0.5), "Expected seed to be a whole number of at least 0, got 0.5."),  # type: ignore[arg-type]
    (
        lambda: Schedule(checkpoint_seconds=-1.0),
        "Expected checkpoint_seconds to be a number of at least 0, got -1.0.",
    ),
    (
        lambda: design("mlp", "adam"),  # type: ignore[arg-type]
        "Expected update to be a rule such as Adam(), got 'adam'.",
    ),
    (lambda: Network.load("."), ". is a folder: expected a file written by brodmann."),
    (
        lambda: AreaLinear(4, 2, feedback="random"),  # type: ignore[arg-type]
        "Expected feedback to be a class, or a functools.partial of one, got 'random'.",
    ),
    (
        lambda: AreaLinear(4, 2, update="adam"),  # type: ignore[arg-type]
        "Expected update to be a rule such as Adam(), got 'adam'.",
    ),
    (
        lambda: mlp(4, 2, router=Router(4, 16)),  # type: ignore[arg-type]
        "Expected router to be a dictionary of settings, got Router.",
    ),
    (
        lambda: Network(mlp(4, 2)).learn(torch.zeros(3, 4), [0, 1, 1]),  # type: ignore[arg-type]
        "Expected target to be a tensor, got list: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: Trainer(mlp(4, 2), (torch.zeros(3, 4), torch.zeros(3))),  # type: ignore[arg-type]
        NO_NETWORK,
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), (np.zeros((3, 4)), torch.zeros(3))),  # type: ignore[arg-type]
        "Expected samples to be a tensor, got ndarray: convert it with torch.as_tensor(...).",
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), *[(torch.ones(n, 4), torch.zeros(3)) for n in (3, 2)]),
        "Expected samples with one target each, got 2 samples and 3 targets.",
    ),
    (
        lambda: Trainer(Network(mlp(4, 2)), (torch.ones(3, 4), torch.zeros(3))).resume(),
        "This Trainer has no folder of checkpoints: give it one.",
    ),
    (
        lambda: evaluate(Network(mlp(4, 2)), torch.ones(0, 4), torch.zeros(0)),
        "Expected samples with one target each, got 0 samples and 0 targets.",
    ),
    (lambda: RunOptions(dropout=1.0).check(), "Expected dropout to be a number in [0, 1), got 1.0."),
]


@pytest.mark.parametrize(("act", "message"), CASES, ids=[message[:60] for _, message in CASES])
def test_errors_say_what_was_expected_what_came_and_what_to_do(act: Callable[[], object], message: str) -> None:
    with pytest.raises(BrodmannError) as caught:
        act()
    found = str(caught.value)
    assert message in found if message.endswith(".safetensors") else found == message
    assert "\n" not in found


@pytest.mark.parametrize(
    "make",
    [
        lambda: mlp(4, 2, areas=10**12),
        lambda: mlp(4, 2, width=10**12),
        lambda: mlp(4, 2, width=(10**6, 10**6)),
        lambda: residual_mlp(4, 2, depth=10**12),
        lambda: Backpropagation(4, 2, depth=3, width=10**8),
    ],
)
def test_a_network_that_no_machine_holds_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(BrodmannError, match=r"needs at least .* GB of memory and this machine has .* GB: use fewer"):
        make()


def test_limits_that_are_allowed_raise_nothing() -> None:
    SGD(decay=0.0, momentum=0.0)
    Adam(beta1=0.0, beta2=0.0)
    AreaLinear(1, 1, areas=1, pooling=0.0)
    Router(1, 1, dimension=1, balance_rate=0.0)
    Local(nn.LayerNorm(4, elementwise_affine=False))


def test_loading_says_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    Network(mlp(4, 2, width=3)).save(path)
    Network(Sequential(mlp(4, 2, width=3, routing="layer"))).save(tmp_path / "own.safetensors")
    with pytest.raises(BrodmannError, match="does not say how its body was built: pass a body built by the same code"):
        Network.load(tmp_path / "own.safetensors")
    own = tmp_path / "own.safetensors"
    with pytest.raises(BrodmannError, match="does not fit this body: size mismatch for layers.0.layers.0.shared"):
        Network.load(own, body=Sequential(mlp(4, 2, width=5, routing="layer")))
    with pytest.raises(BrodmannError, match="does not fit this body: Missing key"):
        Network.load(own, body=Sequential(mlp(4, 2, depth=3, width=3, routing="layer")))
    with pytest.raises(BrodmannError, match="of another design: its width is 3, but that of the body is 5"):
        Network.load(path, body=mlp(4, 2, width=5))


def test_a_body_that_computes_otherwise_is_not_given_the_weights(tmp_path: Path) -> None:
    """Tensors of equal shapes do not tell: an activation, a gate and a temperature have none."""
    path, built = tmp_path / "network.safetensors", {"in_features": 4, "outputs": 2, "width": 3, "areas": 2}
    Network(mlp(**built, activation="tanh", router={"temperature": 0.5})).save(path)
    same = Network.load(
        path, body=mlp(**built, activation="tanh", router={"temperature": 0.5}, depth=2, pooling=0.1, readout_scale=1.0)
    )
    x = torch.randn(5, 4)
    torch.testing.assert_close(same(x), Network.load(path)(x))
    with pytest.raises(
        BrodmannError, match="of another design: its activation is 'tanh', but that of the body is 'relu'"
    ):
        Network.load(path, body=mlp(**built, router={"temperature": 0.5}))
    with pytest.raises(
        BrodmannError, match="of another design: its router is {'temperature': 0.5}, but that of the body is "
    ):
        Network.load(path, body=mlp(**built, activation="tanh"))


def test_a_warning_names_the_line_of_the_user_also_through_wrappers() -> None:
    with pytest.warns(RuntimeWarning, match="look here") as told:
        torch.no_grad()(warn)("look here", RuntimeWarning)
    assert told[0].filename == __file__
