"""Rewriting: the graph of a network becomes one of functions that leave their inputs as they are.

- ``training_mode``: what a network does in training mode only; dropout is kept.
- ``batch_norms``: `F.batch_norm` becomes a module.
- ``in_place``: what would write into its input returns what it would write.
- ``ties``: weights that several maps share become parameters that functions read.
- ``biases_and_masks``: biases and masks of functions are added by sums of their own.
"""
