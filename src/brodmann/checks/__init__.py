"""What is checked before anything is computed: settings, sizes and inputs; and what users add."""

from .callables import binds, check_registered, check_settings, signature_of, unwrapped
from .names import as_names
from .numbers import check_finite, check_memory, check_positive, check_real, check_share, check_switch, check_whole
from .own_methods import TRUSTED, Unmodified, changes_of, check_sent
from .tensors import (
    MisfitError,
    all_finite,
    all_in,
    check_default_dtype,
    check_dtype,
    check_error,
    check_input,
    check_tensors,
    check_weights,
    form_of,
    is_real,
    length_of,
    rows_not_finite,
)

__all__ = [
    "TRUSTED",
    "MisfitError",
    "Unmodified",
    "all_finite",
    "all_in",
    "as_names",
    "binds",
    "changes_of",
    "check_default_dtype",
    "check_dtype",
    "check_error",
    "check_finite",
    "check_input",
    "check_memory",
    "check_positive",
    "check_real",
    "check_registered",
    "check_sent",
    "check_settings",
    "check_share",
    "check_switch",
    "check_tensors",
    "check_weights",
    "check_whole",
    "form_of",
    "is_real",
    "length_of",
    "rows_not_finite",
    "signature_of",
    "unwrapped",
]
