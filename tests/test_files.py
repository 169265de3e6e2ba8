"""Files: whole or absent, readable by others, never a second copy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from brodmann import BrodmannError
from brodmann.files import read_tensors, replacing, write_tensors


def test_tensors_and_options_come_back(tmp_path: Path) -> None:
    tensors = {
        "view of a larger room": torch.empty(100, 3)[:2].fill_(1.0),
        "apart": torch.arange(12.0).reshape(3, 4).t(),
        "scalar": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4),
    }
    write_tensors(tmp_path / "a" / "t.safetensors", tensors, {"lr": 0.1})
    found, options = read_tensors(tmp_path / "a" / "t.safetensors")
    assert options == {"lr": 0.1}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert (tmp_path / "a" / "t.safetensors").stat().st_size < 1000 + 4 * 20


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrodmannError, match=r"Cannot write .*: .*\. Choose a folder that you may write to\."):
        write_tensors(tmp_path / "file" / "t.safetensors", {"a": torch.zeros(1)}, {})


def test_a_link_stays_one_and_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    write_tensors(file, {"x": torch.zeros(1)}, {})
    link.symlink_to(file)
    write_tensors(link, {"x": torch.ones(1)}, {})
    assert link.is_symlink()
    assert torch.equal(read_tensors(file)[0]["x"], torch.ones(1))
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(BrodmannError, match="what is there is not a file"):
            write_tensors(place, {"x": torch.zeros(1)}, {})
    assert pipe.is_fifo()
