"""Mode: what PyTorch tells of every operation."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Abstract: is told of every operation of PyTorch inside its block, by ``__torch_dispatch__``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Lets PyTorch load its compiler, which takes a second, only for those who compile: nothing here does."""
        return False
