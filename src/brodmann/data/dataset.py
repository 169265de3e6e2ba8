"""A data set as it was published, and its split that is ready to train."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from ..errors import BrodmannError
from .arrays import Array, as_array, check_parts, class_targets, indexed_targets, input_tensors, real_targets
from .columns import in_order, names_of
from .preprocessing import Preprocessing
from .targets import TargetScale

TEST_FRACTION = 0.2
"""Share of the test part if a source has no official one: the usual fifth."""


class _Described:
    """What `Dataset` and `Split` can say about themselves."""

    name: str
    classes: tuple[str, ...] | None
    x_train: Tensor
    y_train: Tensor

    def __repr__(self) -> str:
        """Names sizes: the values would fill screens."""
        parts = {key.removeprefix("x_"): len(part) for key, part in vars(self).items() if key.startswith("x_")}
        counts = ", ".join(f"{count} {part}" for part, count in parts.items())
        kind = f"{self.outputs} classes" if self.is_classification else f"{self.outputs} real targets"
        return f"{type(self).__name__}({self.name!r}, {counts}, samples of shape {self.shape}, {kind})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self.x_train.shape[1:])

    @property
    def is_coloured(self) -> bool:
        """Whether inputs are images of three channels."""
        return len(self.shape) == 3 and self.shape[0] == 3

    @property
    def is_classification(self) -> bool:
        """Whether the targets are class indices (else they are real values)."""
        return self.classes is not None

    @property
    def outputs(self) -> int:
        """Number of classes, or of real-valued targets."""
        return int(self.y_train.shape[1]) if self.classes is None else len(self.classes)


# Equality of tensors is not one truth value, so the generated comparison would fail; the digest is there to compare.
@dataclass(frozen=True, eq=False, repr=False)
class Split(_Described):
    """Processed training, validation and test parts.

    Attributes:
        name: Name of the data set.
        classes: Class names in the order of the indices, ``None`` for regression.
        digest: Digest of the raw data set, see `Dataset`.
        x_train: Processed inputs, float32, ``(n, features)`` or ``(n, channels, height, width)``.
        y_train: Int64 class indices ``(n,)``, or targets ``(n, outputs)``, as in the data set.
        x_validation: Like ``x_train``; no rows for ``validation=0``.
        y_validation: Like ``y_train``.
        x_test: Like ``x_train``.
        y_test: Like ``y_train``.
        preprocessing: What turned the raw inputs into these; prediction repeats it.
        targets: What turned the raw targets into these, see `standardised`; None if they are as in the data set.
    """

    name: str
    classes: tuple[str, ...] | None
    digest: str
    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor
    preprocessing: Preprocessing
    targets: TargetScale | None = None

    def standardised(self) -> Split:
        """Returns the same parts with real targets at mean 0 and variance 1 over the training part.

        Raises:
            BrodmannError: The targets are classes.
        """
        if self.is_classification:
            raise BrodmannError("Only real targets have a mean and a variance: leave classes as they are.")
        if self.targets is not None:  # they are so already, and it knows the units of the data set
            return self
        scale = TargetScale.fit(self.y_train)
        return replace(
            self,
            y_train=scale(self.y_train),
            y_validation=scale(self.y_validation),
            y_test=scale(self.y_test),
            targets=scale,
        )


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(_Described):
    """A data set with the raw values of its source.

    Attributes:
        name: The name or path that `load` was given.
        x_train: ``(n, features)`` or ``(n, channels, height, width)``; raw values, such as 0 to 255, in float32 or,
            if a column needs it, in float64.
        y_train: Int64 class indices ``(n,)``, or targets ``(n, outputs)`` for regression, likewise.
        x_test: Like ``x_train``.
        y_test: Like ``y_train``.
        classes: Class names in the order of the indices, ``None`` for regression.
        digest: SHA-256 over shapes, dtypes and bytes of the four arrays, hexadecimal. Results that carry the same
            digest came from the same data.
        columns: Names of the inputs if a table or a data frame has them, else ``None``.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...] | None
    digest: str
    columns: tuple[str, ...] | None = None

    @classmethod
    def from_arrays(
        cls,
        name: str,
        x_train: Array,
        y_train: Array,
        x_test: Array,
        y_test: Array,
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """Checks four arrays and brings them into the uniform form.

        Integer, boolean and string targets are classes, floating-point targets are regression. Floats stay regression
        even if all are whole numbers with few values: whether 1.0, 2.0, 3.0 are grades or classes only the owner
        knows, so store classes as integers.

        Args:
            name: Name for messages and results.
            x_train: Numbers of shape ``(n, features)``, ``(n, height, width)`` (grey images),
                ``(n, channels, height, width)`` or ``(n, height, width, channels)``. Four axes are read with the
                channels last only if the last size is 1, 3 or 4, unlike the two before it, and the second neither 1
                nor 3.
            y_train: Classes ``(n,)`` or ``(n, 1)``, or float targets ``(n,)`` or ``(n, outputs)``.
            x_test: Like ``x_train``. Of two data frames, columns are brought into the order of ``x_train``, by name.
            y_test: Like ``y_train``.
            classes: Names of the classes if the targets are their indices already; the training part need not hold
                all of them. Default ``None``: the distinct training labels in ascending order.

        Returns:
            The data set.

        Raises:
            BrodmannError: Arrays are empty, masked, not numeric, not finite in float32, of mismatched lengths or
                shapes, a column is missing, or there are fewer than two classes. Where classes are not named, the test
                part holds one that the training part lacks; if so, targets are not their indices.
        """
        columns = names_of(x_train)
        given = {"x_train": x_train, "y_train": y_train, "x_test": in_order(x_test, columns), "y_test": y_test}
        x_train, y_train, x_test, y_test = (as_array(given[key], f"Data set '{name}': {key}") for key in given)
        check_parts(name, (x_train, y_train), (x_test, y_test))
        x = input_tensors(name, x_train, x_test)
        names = None if classes is None else tuple(map(str, classes))
        if names is not None:
            y = indexed_targets(name, y_train, y_test, len(names))
        elif y_train.dtype.kind == "f" or y_test.dtype.kind == "f":
            y = real_targets(name, y_train, y_test)
        else:
            y, names = class_targets(name, y_train, y_test)
        return cls(name, x[0], y[0], x[1], y[1], names, _digest(x[0], y[0], x[1], y[1]), columns)

    def is_intact(self) -> bool:
        """Whether the four arrays are still those of the digest: nobody has written into them."""
        return _digest(self.x_train, self.y_train, self.x_test, self.y_test) == self.digest

    def split(
        self,
        validation: float = 0.1,
        seed: int = 0,
        *,
        normalise: str = "standard",
        grey: bool = False,
        flat: bool = True,
    ) -> Split:
        """Takes a validation part out of the training part and processes all three parts.

        The validation part has the class shares of the whole. If a class has fewer than two members, or a part
        would have fewer examples than there are classes, that is impossible and the split is random, except that one
        example of every class stays. The statistics of the normalisation come from what remains for training, never
        from validation or test. Real-valued targets stay as they are. Within each part the order of the source is kept.

        Args:
            validation: Share of the training part, in [0, 1), rounded up to whole examples. Default 0.1: enough to
                choose by, small enough not to cost accuracy. 0 gives empty validation tensors.
            seed: Seed of the validation split, 0 to 2**32 - 1. Default 0, so that runs are comparable.
            normalise: ``"standard"``, ``"unit"`` or ``"none"``, see `Preprocessing.fit`. Default ``"standard"``.
            grey: Whether colour images become grey. Default ``False``.
            flat: Whether inputs become vectors. Default ``True``, since dense layers take vectors.

        Returns:
            The processed parts, on the CPU.

        Raises:
            BrodmannError: If ``validation`` or ``seed`` is out of range or leaves nothing to train on, ``normalise``
                is unknown, or ``grey`` is asked of inputs that are not images.
        """
        kept, held_out = self._validation_rows(validation, seed)
        x_train = self.x_train[kept]
        preprocessing = Preprocessing.fit(x_train, normalise=normalise, grey=grey, flat=flat)
        x_train = preprocessing(x_train)  # the raw rows go before those of the other parts come
        return Split(
            name=self.name,
            classes=self.classes,
            digest=self.digest,
            x_train=x_train,
            y_train=self.y_train[kept],
            x_validation=preprocessing(self.x_train[held_out]),
            y_validation=self.y_train[held_out],
            x_test=preprocessing(self.x_test),
            y_test=self.y_test,
            preprocessing=preprocessing,
        )

    def _validation_rows(self, validation: float, seed: int) -> tuple[Tensor, Tensor]:
        if not isinstance(validation, Real) or not 0 <= validation < 1:
            raise BrodmannError(
                f"validation must be a share of at least 0 and below 1, got {validation!r}. Use 0.1 for a tenth."
            )
        if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**32:
            raise BrodmannError(f"seed must be from 0 to {2**32 - 1}, got {seed!r}. Use 0.")
        validation, seed, count = float(validation), int(seed), len(self.x_train)
        if validation == 0:
            return torch.arange(count), torch.arange(0)
        if int(np.ceil(validation * count)) >= count:
            raise BrodmannError(
                f"validation={validation} leaves none of the {count} training examples to train on. Use a smaller one."
            )
        labels = self.y_train.numpy() if self.is_classification else None
        kept, held_out = random_rows(count, validation, seed, labels)
        return torch.from_numpy(kept), torch.from_numpy(held_out)


def random_rows(count: int, fraction: float, seed: int, labels: Array | None) -> tuple[Array, Array]:
    """Draws a share of rows, with the class shares of the whole if labels allow it.

    If a class is too small for that, the draw is random, but one row of every class stays, if there are enough.

    Args:
        count: Number of rows.
        fraction: Share to hold out, in (0, 1), rounded up.
        seed: Seed of the draw.
        labels: Class of each row, or ``None`` for a purely random draw.

    Returns:
        Int64 row numbers that stay and that are held out, each ascending.
    """
    wanted = int(np.ceil(fraction * count))
    if labels is not None and not _can_stratify(labels, wanted):
        order = np.random.default_rng(seed).permutation(count)
        _, firsts = np.unique(labels[order], return_index=True)
        if len(firsts) + wanted <= count:
            held_out = np.delete(order, firsts)[:wanted]
            return np.setdiff1d(order, held_out), np.sort(held_out)
        labels = None
    from sklearn.model_selection import train_test_split  # which takes a second: not for those who never split

    kept, held_out = train_test_split(np.arange(count), test_size=fraction, random_state=seed, stratify=labels)
    return np.sort(kept), np.sort(held_out)


def with_fixed_test_part(name: str, x: Array, y: Array, classes: Sequence[str] | None = None) -> Dataset:
    """Builds a data set from a source without an official test part: 80/20, stratified, always seed 0."""
    labels = None if y.dtype.kind == "f" else y
    train, test = random_rows(len(x), TEST_FRACTION, 0, labels)
    return Dataset.from_arrays(name, x[train], y[train], x[test], y[test], classes)


def _can_stratify(labels: Array, held_out: int) -> bool:
    _, members = np.unique(labels, return_counts=True)
    return bool(members.min() >= 2 and len(members) <= min(held_out, len(labels) - held_out))


def _digest(*tensors: Tensor) -> str:
    result = hashlib.sha256()
    for tensor in tensors:
        array = tensor.contiguous().numpy()
        # Little-endian whatever the machine, so that a digest in a table can be compared anywhere.
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        result.update(f"{array.dtype.name} {array.shape}\n".encode())
        result.update(array.data)
    return result.hexdigest()
