"""Steps: the graph of a network is walked through with a few samples, and divided into what one layer can stand for.

- ``walk``: makes a ``computation``, which is steps between inputs and outputs.
- ``functions``: functions of the graph as modules.
- ``provenance``: which values are made of samples, of parameters, or of both.
- ``products``: which functions are maps by a parameter.
- ``rows``: how the rows of samples lie.
- ``lengths``: whether the graph holds for sequences of other lengths.
- ``stirring``: noise for weights of 0, which would hide both.
"""
