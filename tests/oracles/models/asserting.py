"""Models that assert something of numbers: pytest writes the assertions of tests in another way, but not these."""

from __future__ import annotations

from torch import Tensor, nn


class Asserting(nn.Module):
    """Asserts something of numbers."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.map, self.most = nn.Linear(4, 3), most

    def forward(self, x: Tensor) -> Tensor:
        assert x.abs().max() <= self.most, "too large"
        assert not (x > self.most).any()
        return self.map(x)


class Choosing(Asserting):
    """Decides by numbers, too."""

    def forward(self, x: Tensor) -> Tensor:
        if x.max() > self.most:
            x = -x
        assert x.abs().max() <= self.most
        return self.map(x)
