"""Files: whole or absent, readable by others, never a second copy."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from brodmann import BrodmannError, CheckpointError
from brodmann.files import read_json, read_tensors, replacing, write_json, write_tensors


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


@pytest.mark.parametrize("place", ["first", "last", "options", "name", "dtype"])
def test_a_byte_that_changed_is_noticed(place: str, tmp_path: Path) -> None:
    path, tensors = tmp_path / "t.safetensors", {"one": torch.arange(6.0), "two": torch.ones(2)}
    digest = write_tensors(path, tensors, {"lr": 0.125})
    assert read_tensors(path, digest)[1] == read_tensors(path)[1] == {"lr": 0.125}
    content = bytearray(path.read_bytes())
    begin = len(content) - 4 * 8
    at = {"first": begin, "last": len(content) - 1, "options": content.index(b"125"), "name": content.index(b"two"),
          "dtype": content.index(b"F32")}[place]  # fmt: skip
    content[at] = ord("I") if place == "dtype" else content[at] ^ 2
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged"):
        read_tensors(path)
    write_tensors(path, {**tensors, "two": torch.zeros(2)}, {"lr": 0.125})
    with pytest.raises(CheckpointError, match="is damaged"):
        read_tensors(path, digest)  # whole, but another one


def test_a_file_of_an_earlier_version_says_no_digest(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "old.safetensors", metadata={"brodmann": '{"lr": 1}'})
    found, options = read_tensors(tmp_path / "old.safetensors")
    assert torch.equal(found["x"], torch.ones(2))
    assert options == {"lr": 1}


def test_tensors_that_another_thread_changes_meanwhile_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tensors = tmp_path / "n.safetensors", {"x": torch.zeros(3)}
    write_tensors(path, tensors, {})
    begun = Event()

    def change() -> None:
        begun.wait()
        tensors["x"].add_(1)

    def save_late(*args: Any, **kwargs: Any) -> None:
        begun.set()
        other.join()
        save_file(*args, **kwargs)

    other = Thread(target=change, daemon=True)
    other.start()
    monkeypatch.setattr("brodmann.files.tensors.save_file", save_late)
    with pytest.raises(BrodmannError, match="changed while they were written"):
        write_tensors(path, tensors, {})
    assert torch.equal(read_tensors(path)[0]["x"], torch.zeros(3))


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


def test_a_full_disk_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_json(tmp_path / "a.json", {"a": 1})
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(BrodmannError, match=r"a\.json: No space left on device\. Make room there, or choose another"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == {"a": 1}


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
