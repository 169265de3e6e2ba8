"""Rewriting: the graph of a network becomes one of functions that leave their inputs as they are.

- ``training_mode``: what a network does in training mode only; ``F.dropout(x, 0.1, self.training)`` is kept.
- ``batch_norms``: ``F.batch_norm(x, self.mean, self.variance, ...)`` becomes a module.
- ``in_place``: ``x.add_(y)`` becomes ``x.add(y)``, and what reads ``x`` after it reads that.
- ``ties``: where ``self.readout.weight`` is ``self.table.weight``, ``self.readout(h)`` becomes ``F.linear(h, weight)``,
  so that both read one parameter.
- ``biases_and_masks``: ``F.linear(x, weight, bias)`` becomes ``F.linear(x, weight) + bias``; likewise masks that learn.
"""
