"""Models of recurrent layers and cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .sizes import CLASSES


class Stepping(nn.Module):
    """Cells in a loop, from a state that learns, from zeros, and from what another one left."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.plain = nn.LSTMCell(4, 5), nn.GRUCell(5, 3), nn.RNNCell(3, 5, bias=False)
        self.first, self.readout = nn.Parameter(torch.randn(5)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        begun = self.first.expand(x.shape[0], -1)
        state, after = (begun, 0.5 * begun), torch.zeros(x.shape[0], 3, dtype=x.dtype)
        for step in range(x.shape[1]):
            state = self.lstm(x[:, step], state)
            after = self.gru(state[0], after)
        return self.readout(torch.cat((self.plain(after, state[1]), after), -1))


class Translating(nn.Module):
    """A recurrent layer that begins where another one ended, its cells included, and one with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.begin = nn.LSTM(4, 6, num_layers=2, batch_first=True), nn.Parameter(torch.randn(2, 1, 3))
        self.write, self.both = nn.LSTM(6, 6, num_layers=2), nn.GRU(6, 3, bidirectional=True, batch_first=True)
        self.readout = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, states = self.read(x)
        written, (last, cells) = self.write(y.flip(1).transpose(0, 1), states)
        again, _ = self.both(written.transpose(0, 1), self.begin.expand(-1, x.shape[0], -1).contiguous())
        return self.readout(again.mean(1) + last[-1] + cells[0])
