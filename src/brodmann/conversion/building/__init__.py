"""Building: steps become the layers of a body.

- ``body``: the body, a chain or a graph of layers.
- ``counterparts``: the layer that stands for a step.
- ``convolutions``: which are one map of patches, and the functions that all others are.
- ``norms``: norms whose gains and shifts are layers.
- ``sizes``: a check of the samples that come.
- ``folding``: batch norms become part of the maps below them, if asked for.
"""
