"""pcx: predictive coding with the energy of cross-entropy, the steps of the library's first tutorial."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pcx
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu
from learner import Task

Batch = tuple[jax.Array, jax.Array]
PER_SAMPLE = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))


def of_weights() -> pxu.M:
    """Returns a new mask, since `to` changes the one that it is called on."""
    return pxu.M(pxnn.LayerParam)


def of_units() -> pxu.M:
    """Returns a new mask of all units but the outputs."""
    return pxu.M_hasnot(pxc.VodeParam, frozen=True)


class Perceptron(pxc.EnergyModule):
    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = [pxnn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
        self.vodes = [*(pxc.Vode() for _ in sizes[1:-1]), pxc.Vode(pxc.ce_energy)]
        self.vodes[-1].h.frozen = True  # holds the class

    def __call__(self, x: jax.Array, y: jax.Array | None) -> jax.Array:
        for layer, vode in zip(self.layers[:-1], self.vodes[:-1], strict=True):
            x = vode(jax.nn.relu(layer(x)))
        self.vodes[-1](self.layers[-1](x))
        if y is not None:
            self.vodes[-1].set("h", y)
        return self.vodes[-1].get("u")


@pxf.vmap(PER_SAMPLE, in_axes=(0, 0), out_axes=0)
def forward(x, y, *, model):
    return model(x, y)


@pxf.vmap(PER_SAMPLE, in_axes=(0,), out_axes=(None, 0), axis_name="batch")
def energy(x, *, model):
    output = model(x, None)
    return jax.lax.psum(model.energy(), "batch"), output


def slope(of, x, model):
    """Returns the derivatives of the energy by what the mask says."""
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, found = pxf.value_and_grad(of.to([False, True]), has_aux=True)(energy)(x, model=model)
    return found["model"]


@pxf.jit(static_argnums=0)
def learn(iterations, x, y, *, model, weights, units):
    model.train()
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        forward(x, y, model=model)
    units.init(of_units()(model))
    for _ in range(iterations):
        units.step(model, slope(of_units(), x, model))
    units.clear()
    weights.step(model, slope(of_weights(), x, model), scale_by=1.0 / len(x))


@pxf.jit()
def outputs(x, *, model):
    model.eval()
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        return forward(x, None, model=model)


class SettlingLearner:
    def __init__(self, task: Task) -> None:
        pcx.RKG.seed(task.seed)
        self.classes = task.sizes[-1]
        self.iterations, rate = task.settings["iterations"], task.settings["rate of units"]
        self.model = Perceptron(task.sizes)
        self.weights = pxu.Optim(lambda: optax.adam(task.lr), of_weights()(self.model))
        self.units = pxu.Optim(lambda: optax.sgd(rate, momentum=0.5, nesterov=True))

    def batch(self, x: np.ndarray, y: np.ndarray) -> Batch:
        return jnp.asarray(x), jax.nn.one_hot(y, self.classes)

    def step(self, batch: Batch) -> None:
        learn(self.iterations, *batch, model=self.model, weights=self.weights, units=self.units)

    def finish(self) -> None:
        jax.block_until_ready(self.model.layers[-1].nn.weight.get())

    def predict(self, x: np.ndarray) -> np.ndarray:
        self.model.clear_params(pxc.VodeParam | pxc.VodeParam.Cache)  # they hold as many samples as a batch
        return np.asarray(outputs(jnp.asarray(x), model=self.model).argmax(1))


def build(task: Task) -> SettlingLearner:
    return SettlingLearner(task)
