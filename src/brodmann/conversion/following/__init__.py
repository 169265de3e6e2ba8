"""Following: `torch.fx` calls a PyTorch network with values that stand for those of samples, and notes what it does.

- ``tracers``: kinds of tracers, tried from the simplest on.
- ``answering``: the kind that answers what a network asks about sizes; ``values`` computes the answers from samples,
  ``kinds`` says what `isinstance` answers, ``alone`` whether a single sample is treated as several are.
- ``questions``: what was asked, to be asked again for samples of other sizes.
- ``transformers`` and ``recurrent``: modules of PyTorch that would hide what they do, written out.
- ``derivatives``: functions with a derivative of their own stay whole.
- ``proxies``: what stands for a value.
"""
