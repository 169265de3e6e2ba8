"""Feedback: how an error travels down through a layer, and how feedback weights learn."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..areas import Slab
from .shape import Shape
from .signal import Signal


class Feedback(nn.Module, ABC):
    """Abstract base of feedback paths: computes a layer's error with respect to its input; its weights may learn."""

    from_output: bool = False
    """Whether the error below is made from the error at the network's output, not from the one that arrives."""
    starts_apart: bool = False
    """Whether its weights start independently of the forward map, so that only learning aligns the two."""
    reads_rows: bool = True
    """Whether `learn` needs the rows of the signal themselves, not only the sums of their products."""
    _form: tuple[int, int]
    """Shape of its layer's maps, (out, in), and of the matrix that `one_matrix` returns."""

    def __init__(self, shape: Shape | None = None) -> None:
        """Takes the facts about its layer that a path may use; the base class uses none."""
        super().__init__()

    @abstractmethod
    def error(self, signal: Signal) -> Tensor:
        """Returns the error below, (rows, in), from values before the update."""

    def one_matrix(self, weight: Tensor | None) -> Tensor | None:
        """Returns the matrix (out, in) by which every row's error goes down, ``delta B``; None if there is more.

        A layer that knows how rows lie together, such as `brodmann.Convolution`, then avoids the errors of single rows,
        and a `brodmann.Product`, which has no rows, needs the matrix. Default None.

        Args:
            weight: The forward map (out, in), if it is the same for all rows, else None. Only `Transpose` and
                `SignSymmetric` may read it.

        Returns:
            (out, in), in the dtype of the layer or of its storage.
        """
        return None

    @property
    def follower(self) -> Slab | None:
        """The feedback matrix that receives the updates of the shared part, if there is one.

        The layer moves it together with the shared part, by one gradient; `learn` moves everything else.
        """
        return None

    def learn(self, signal: Signal, lr: float, decay: float, area_lr: float, area_decay: float) -> None:
        """Moves the other feedback weights in place, shared ones and maps per area. Default: there are none.

        Args:
            signal: As for `error`; forward weights have not moved yet.
            lr: Learning rate of maps that all areas share: the step's, times the layer's and ``Rates.feedback``.
            decay: Decoupled decay of the layer's rule, that of the shared part.
            area_lr: ``lr`` times the rate of areas, see `Rates`: for maps per area.
            area_decay: ``decay`` plus the layer's pooling: for maps per area.
        """
