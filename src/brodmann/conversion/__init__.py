"""Conversion: a PyTorch network is followed step by step, and becomes layers of areas that compute the same; and back.

`from_torch` calls, in this order:

1. ``samples.shown``, which makes a few samples and lets ``convertible`` refuse what cannot be converted;
2. ``steps.walk.computed_by``, which returns a `Computation`. It calls ``tracing.traced``, which calls

   - ``following``: a graph of torch.fx, once for inference and once for training mode;
   - ``rewriting``: that graph, of functions that leave their inputs as they are;

   and then makes ``steps`` of the graph;
3. ``building``: layers, one for each step, as a body;
4. ``equality`` and ``kept``, which check that body and model return the same, and that the model keeps nothing.

`to_torch` goes the same way with numbers that say where each belongs, and reads them from the layers. All files may use
``modules``, PyTorch's maps and norms, and ``nodes``, the nodes of a graph.
"""

from .from_torch import from_torch
from .to_torch import to_torch

__all__ = [
    "from_torch",
    "to_torch",
]
