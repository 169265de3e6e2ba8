"""One's own data as a table of text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brodmann.cli import main
from brodmann.data import load
from brodmann.errors import BrodmannError, MissingDataError


def write(path: Path, targets: list[str], header: str = "", columns: int = 3) -> Path:
    x = np.random.default_rng(0).normal(size=(len(targets), columns)).round(3)
    lines = [",".join([*map(str, row), target]) for row, target in zip(x, targets, strict=True)]
    path.write_text("\n".join([*([header] if header else []), *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        (["0", "1", "7", "1"] * 10, ("0", "1", "7")),
        (["red", "white", " red", "rose"] * 10, ("red", "rose", "white")),
        (["0.0", "1.5", "2", "-3e1"] * 10, None),
    ],
)
@pytest.mark.parametrize("header", ["", "a,b,c,target", "0,1,2,3"])
def test_the_last_column_is_the_target(
    tmp_path: Path, targets: list[str], classes: tuple[str, ...] | None, header: str
) -> None:
    path = write(tmp_path / "t.csv", targets, header)
    data = load(str(path))
    assert data.classes == classes
    assert data.shape == (3,)
    assert (len(data.x_train), len(data.x_test)) == (32, 8)
    assert load("t.csv", tmp_path).digest == data.digest  # found in the data directory too
    table = np.loadtxt(path, delimiter=",", usecols=(0, 1, 2), skiprows=int(bool(header)), dtype=np.float32)
    rows = {tuple(row) for row in [*data.x_train.tolist(), *data.x_test.tolist()]}
    assert rows == {tuple(row) for row in table.tolist()}
    of_row = dict(zip(map(tuple, table.tolist()), targets, strict=True))
    for x, y in [
        *zip(data.x_train.tolist(), data.y_train, strict=True),
        *zip(data.x_test.tolist(), data.y_test, strict=True),
    ]:
        target = of_row[tuple(x)].strip()
        assert float(y) == pytest.approx(float(target)) if classes is None else classes[int(y)] == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1,2,a\n1,x,b\n" * 5,
            "line 2 column 2 must be a finite number; 'x' came. Write numbers only, separated by commas.",
        ),
        ("1,2,a\n1,b\n" * 5, "line 2 must have 3 values like the first; 2 came. Complete the line."),
        ("1,2,a\nnan,2,b\n" * 5, "line 2 column 1 must be a finite number; 'nan' came."),
        ("1,x2,y3\n" * 5, "'x2' came. Write numbers only, separated by commas. A header holds no number, and no name"),
        (
            "1,2,3\n1,2,NA\n" * 5,
            "line 2 has no target: 'NA' came in its last column. Leave examples without a target out; a class needs",
        ),
        ("1,2,3\n1,2,x\n" * 5, "has numbers as targets in its last column, and 'x' in line 2: write all of them as"),
        ("1,2,0.5\n1,2,\n" * 5, "line 2 has no target: '' came"),
        ("1,2,red\n1,2,\n" * 5, "line 2 has no target: '' came"),
        (
            "".join(f"1,word {n}\n" for n in range(60)),
            "are words, and so classes, but there are 60 of them in 60 examples.",
        ),
        (
            "1,2,a\n",
            "must hold at least five examples of two columns, the last of them the target, separated by commas;",
        ),
        ("1;2;a\n" * 9, "must hold at least five examples of two columns, the last of them the target, separated by"),
        ("", "must hold at least one example; it is empty. Add a row."),
        (
            ",a,b\n" + "".join(f"{n},2,x\n" for n in range(9)),
            "has no name and counts the lines, as an index does, which would be learned from: leave it out (pandas:",
        ),
        (
            ",0,1,2\n" + "".join(f"{n},2,0.1,x\n" for n in range(9)),
            "has no name and counts the lines, as an index does, which would be learned from: leave it out (pandas:",
        ),
        (
            "".join(f"1,{n}\n" for n in range(100)),
            "are whole numbers, and so classes, but there are 100 of them in 100 examples. Write real targets with a "
            "decimal point, such as 0.0.",
        ),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(BrodmannError) as caught:
        load(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("\ufeff" + "1,2,+1\r\n\r\n1,2,-1\r\n" * 5, ("-1", "1")),
        ('"1","2","a, b"\n1,2,"c"\n' * 5, ("a, b", "c")),
        ("1,2,99999999999999999999\n1,2,5\n" * 5, ("5", "99999999999999999999")),
    ],
)
def test_how_tables_are_written(tmp_path: Path, text: str, classes: tuple[str, ...]) -> None:
    path = tmp_path / "T.CSV"
    path.write_text(text, encoding="utf-8", newline="")
    assert load(str(path)).classes == classes


def test_no_such_table(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no file is there. Check the path."):
        load(str(tmp_path / "t.csv"))


def test_a_table_through_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).round(3)
    table, run, inputs = tmp_path / "t.csv", tmp_path / "run", tmp_path / "inputs.csv"
    table.write_text("".join(f"{a},{b},{'up' if a > 0 else 'down'}\n" for a, b in x))
    inputs.write_text("x,y\n2,0\n-2,0\n")
    monkeypatch.chdir(tmp_path)
    main(["train", "t.csv", "--out", str(run), "--areas", "2", "--width", "16", "--epochs", "20", "--no-figures"])
    assert json.loads((run / "result.json").read_text())["test_accuracy"] > 0.8
    assert json.loads((run / "config.json").read_text())["options"]["dataset"] == str(table.resolve())
    capsys.readouterr()
    main(["predict", str(run), str(inputs)])
    assert capsys.readouterr().out.split() == ["up", "down"]
    with pytest.raises(SystemExit):
        main(["predict", str(run), str(table)])
    assert "must be a finite number; 'down' came" in (error := capsys.readouterr().err) or "'up' came" in error


def test_a_first_column_without_a_name_that_counts_nothing_is_an_input(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(",b,c\n" + "".join(f"{n * 0.5},2,x\n{n},1,y\n" for n in range(9)))
    assert load(str(path)).shape == (2,)
    path.write_text("0,1,2\n" + "".join(f"{n},{n + 1},x\n{n},1,y\n" for n in range(9)))
    assert len(load(str(path)).x_train) + len(load(str(path)).x_test) == 18


def test_a_class_with_one_example_stays_in_training(tmp_path: Path) -> None:
    for place in range(12):
        targets = ["0", "1"] * 20
        targets[place] = "7"
        data = load(str(write(tmp_path / "t.csv", targets)))
        assert data.classes == ("0", "1", "7")
        assert (len(data.x_train), len(data.x_test)) == (32, 8)
        split = data.split(0.1, seed=place)
        assert set(split.y_train.tolist()) == {0, 1, 2}
        assert len(split.x_train) + len(split.x_validation) == 32


def test_predicting_from_columns_in_another_order_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = write(tmp_path / "t.csv", ["x", "y"] * 20, "a,b,c,kind"), str(tmp_path / "run")
    main(["train", str(path), "--epochs", "1", "--width", "4", "--no-figures", "--out", run])
    (tmp_path / "same.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "none.csv").write_text("1,2,3\n")
    (tmp_path / "other.csv").write_text("b,a,c\n1,2,3\n")
    capsys.readouterr()
    main(["predict", run, str(tmp_path / "same.csv")])
    main(["predict", run, str(tmp_path / "none.csv")])
    first, second = capsys.readouterr().out.split()
    assert first == second
    with pytest.raises(SystemExit, match="2"):
        main(["predict", run, str(tmp_path / "other.csv")])
    assert "is 'b', in training it was 'a': bring the columns into the order" in capsys.readouterr().err


def test_real_targets_that_are_all_equal_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(write(tmp_path / "t.csv", ["0.5"] * 20)), "--out", str(tmp_path / "run")])
    assert "All training targets of" in capsys.readouterr().err
    main(["train", str(write(tmp_path / "t.csv", ["0.5", "1.5"] * 4)), "--epochs", "1", "--out", str(tmp_path / "run")])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["validation_r2"] is None  # of one sample
    assert result["test_r2"] is None or result["test_r2"] > -1e6
