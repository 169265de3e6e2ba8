"""Conversion: a PyTorch network is followed step by step, and becomes layers of areas that compute the same; and back.

How a model goes through these files, from `from_torch` down:

1. ``samples.shown`` makes a few samples of the shape; ``convertible`` refuses models that hold what cannot be
   converted.
2. ``steps.computed_by`` returns a ``computation.Computation``: the steps between inputs and outputs.

   a. ``transformers`` and ``recurrent`` write out modules of PyTorch that would hide what they do.
   b. ``tracing`` makes a graph of torch.fx, for which ``following`` calls the model at inference and in training mode.
      Where it asks about sizes, ``answering`` answers from ``values`` of the samples, and ``kinds`` what `isinstance`
      says of them; ``alone`` checks that one sample is treated as several are; ``sizes`` puts the same ``questions``
      again when samples of other sizes come to the body. ``training_mode``, ``batch_norms``, ``in_place``,
      ``derivatives`` and ``ties`` rewrite the graph: dropout, norms by the batch, in-place writes, functions with a
      derivative of their own, and weights that several maps share.
   c. The steps are made from the graph: ``provenance`` tells which values are made of samples, of parameters, or of
      both, ``maps`` which modules and ``products`` which functions are linear maps by a parameter, and ``rows`` how
      samples lie. ``lengths`` tells whether the graph holds for sequences of other lengths. For both, ``stirring``
      replaces weights of 0, which show nothing.

3. ``folding`` puts batch norms into maps, where asked for.
4. ``body`` makes layers of steps, each by ``counterparts``.
5. ``equality`` checks that body and model return the same, and ``kept`` that the model keeps nothing from call to call.

`to_torch` goes the same way with numbers that say where each belongs, and reads them from the layers.
"""

from .from_torch import from_torch
from .to_torch import to_torch

__all__ = [
    "from_torch",
    "to_torch",
]
