"""Conversion: a PyTorch network is followed step by step, and becomes layers of areas that compute the same; and back.

This network, for example, is a chain of three layers::

    class Small(nn.Module):                     # self.map = nn.Linear(4, 8), self.weight = nn.Parameter(...), (8, 3)
        def forward(self, x):
            return torch.relu_(self.map(x)) @ self.weight

First ``samples.shown`` makes eleven random samples, and lets ``convertible`` refuse what cannot be converted. Then
``steps.walk.computed_by`` makes steps of the network, and calls ``tracing.traced`` for the first two stages:

1. ``following``: `torch.fx` notes what ``forward`` does, as a graph, at inference and in training mode::

       map    = self.map(x)                     # call_module, a whole module of PyTorch
       relu_  = torch.relu_(map)                # call_function
       weight = self.weight                     # get_attr
       matmul = relu_ @ weight                  # call_function

2. ``rewriting``: the functions of the graph leave their inputs as they are: ``relu_ = torch.relu(map)``.
3. ``steps``: the samples go through the graph, which shows what each node is: the product maps rows of samples by a
   matrix, so that it is a linear map, and ``weight`` a part of it::

       Step("map", nn.Linear(4, 8), sources=("input",), ...)
       Step("relu_", nn.ReLU(), sources=("map",), ...)
       Step("matmul", nn.Linear(8, 3, bias=False), sources=("relu_",), ...)

4. ``building``: a layer for each step, which starts out as it, in a chain, or a `Graph` where values branch::

       Sequential(AreaLinear(4, 8, ...), Local(nn.ReLU()), AreaLinear(8, 3, ...))

Finally ``equality`` and ``kept`` check that body and model return the same, and that the model keeps nothing.

`to_torch` goes the same way with numbers that say where each belongs, and reads them from the layers. All files may use
``modules``, PyTorch's maps and norms, and ``nodes``, the nodes of a graph.
"""

from .from_torch import from_torch
from .to_torch import to_torch

__all__ = [
    "from_torch",
    "to_torch",
]
