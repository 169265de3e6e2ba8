"""jpc: predictive coding by `make_pc_step`, whose units settle by an ODE solver of adaptive steps."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jpc
import numpy as np
import optax
from learner import Task

Batch = tuple[jax.Array, jax.Array]


class SettlingLearner:
    def __init__(self, task: Task) -> None:
        inputs, width, *others, self.classes = task.sizes
        if set(others) - {width}:
            raise ValueError(f"jpc.make_mlp has hidden layers of one width, got {task.sizes[1:-1]}")
        self.model = jpc.make_mlp(
            jax.random.PRNGKey(task.seed),
            input_dim=inputs,
            width=width,
            depth=len(task.sizes) - 1,
            output_dim=self.classes,
            act_fn="relu",
            use_bias=True,
        )
        self.loss = task.settings["loss"]
        self.optimiser = optax.adam(task.lr)
        self.state = self.optimiser.init((eqx.filter(self.model, eqx.is_array), None))

    def batch(self, x: np.ndarray, y: np.ndarray) -> Batch:
        return jnp.asarray(x), jax.nn.one_hot(y, self.classes)

    def step(self, batch: Batch) -> None:
        x, y = batch
        result = jpc.make_pc_step(self.model, self.optimiser, self.state, output=y, input=x, loss_id=self.loss)
        self.model, self.state = result["model"], result["opt_state"]

    def finish(self) -> None:
        jax.block_until_ready(eqx.filter(self.model, eqx.is_array))

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(jpc.init_activities_with_ffwd(self.model, jnp.asarray(x))[-1].argmax(1))


def build(task: Task) -> SettlingLearner:
    return SettlingLearner(task)
