"""Published data sets, where they are on this machine."""

from __future__ import annotations

import os

import pytest

from brodmann.data import Dataset, load
from brodmann.errors import MissingDataError

REAL_DATA = os.environ.get("BRODMANN_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="BRODMANN_DATA is not set")


def load_real(name: str) -> Dataset:
    try:
        return load(name, REAL_DATA)
    except MissingDataError as error:
        pytest.skip(str(error))


@needs_real_data
def test_real_mnist() -> None:
    dataset = load_real("mnist")
    assert (dataset.x_train.shape, dataset.x_test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert (dataset.x_train.max(), dataset.outputs) == (255, 10)
    # The mean and deviation that everybody uses for MNIST.
    split = dataset.split(0)
    assert split.preprocessing.mean[0] / 255 == pytest.approx(0.1307, abs=1e-4)
    assert split.preprocessing.scale[0] / 255 == pytest.approx(0.3081, abs=1e-4)


@needs_real_data
def test_real_letter() -> None:
    dataset = load_real("letter")
    assert (dataset.shape, dataset.outputs, len(dataset.x_train), len(dataset.x_test)) == ((16,), 26, 16000, 4000)
    assert len(dataset.split(0.1).x_validation) == 1600
