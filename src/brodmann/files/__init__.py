"""Files that are whole or absent: atomic writes, tensors and JSON in one safetensors file, no pickle."""

from .atomic import drop_temporaries, replacing, write_bytes
from .folders import alone_in, contents, empty, in_turn, staying
from .json_files import as_json, as_number, entry_as_json, finite_or_none, read_json, write_json
from .paths import expanded, user_cache
from .tensors import check_utf8, read_tensors, write_tensors

__all__ = [
    "alone_in",
    "as_json",
    "as_number",
    "check_utf8",
    "contents",
    "drop_temporaries",
    "empty",
    "entry_as_json",
    "expanded",
    "finite_or_none",
    "in_turn",
    "read_json",
    "read_tensors",
    "replacing",
    "staying",
    "user_cache",
    "write_bytes",
    "write_json",
    "write_tensors",
]
