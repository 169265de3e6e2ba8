"""The estimators at their defaults on scikit-learn's own tables, beside scikit-learn's estimators at theirs.

Run: python benchmarks/estimators.py [--seeds 3] [--folds 5]
Prints the cross-validated accuracy in %, or 100 times the R^2 where the target is a number: mean (lowest) over seeds,
each of which shuffles the folds anew. Nothing is tuned. The Brodmann estimators scale inputs and targets themselves;
scikit-learn's get a StandardScaler for each.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
    make_friedman1,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brodmann.estimator import SALClassifier, SALRegressor

CLASSES = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
NUMBERS = {"diabetes": load_diabetes, "friedman1": lambda **_: make_friedman1(1000, noise=0.5, random_state=0)}
CLASSIFIERS: dict[str, Any] = {
    "SALClassifier": SALClassifier(),
    "the same, rate 1e-2": SALClassifier(learning_rate=1e-2),
    "MLPClassifier": make_pipeline(StandardScaler(), MLPClassifier()),
    "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression()),
}
REGRESSORS: dict[str, Any] = {
    "SALRegressor": SALRegressor(),
    "the same, rate 1e-2": SALRegressor(learning_rate=1e-2),
    "MLPRegressor": TransformedTargetRegressor(
        make_pipeline(StandardScaler(), MLPRegressor()), transformer=StandardScaler()
    ),
    "Ridge": make_pipeline(StandardScaler(), Ridge()),
}


def scores(estimator: Any, x: Any, y: Any, folds: Callable[..., Any], seeds: int) -> list[float]:
    """Returns the mean score over the folds of every seed, times 100."""
    found = []
    for seed in range(seeds):
        drawn = clone(estimator)
        drawn.set_params(**{name: seed for name in drawn.get_params() if name.endswith("random_state")})
        found.append(100 * cross_val_score(drawn, x, y, cv=folds(shuffle=True, random_state=seed)).mean())
    return found


def main() -> None:
    """Prints a table for classes and one for numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # scikit-learn's MLP stops at 200 epochs, which is its default
    for sets, estimators, folds in ((CLASSES, CLASSIFIERS, StratifiedKFold), (NUMBERS, REGRESSORS, KFold)):
        table = Table("set", "samples", "features", *estimators)
        for name, read in sets.items():
            x, y = read(return_X_y=True)
            row = [name, *map(str, x.shape)]
            for estimator in estimators.values():
                found = scores(estimator, x, y, partial(folds, options.folds), options.seeds)
                row.append(f"{statistics.mean(found):.1f} ({min(found):.1f})")
            table.add_row(*row)
        Console(width=130).print(table)


if __name__ == "__main__":
    main()
