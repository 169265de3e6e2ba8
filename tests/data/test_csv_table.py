"""One's own data as a table of text."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from brodmann.cli import main
from brodmann.data import Preprocessing, load, load_inputs
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
@pytest.mark.parametrize("header", ["", "a,b,c,target", "0,1,2,3", "1,2,3,4"])
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
            "line 2 column 2 must be a finite number, got 'x'. Write numbers only, separated by commas.",
        ),
        (
            "x,y,kind\n" + "red,2,3\n" * 5,
            "separated by commas. If the target is not the last column, name it by --target.",
        ),
        ("1,2,a\n1,b\n" * 5, "line 2 must have 3 values like the first, got 2. Complete the line."),
        ("1,2,a\nnan,2,b\n" * 5, "line 2 column 1 must be a finite number, got 'nan'."),
        ("1,2,a\n1,1e39,b\n" * 5, "line 2 column 2 must be a number of at most 3.4e38, got '1e39'."),
        ("1,2,0.5\n1,2,-1e39\n" * 5, "Expected a target of at most 3.4e38 in line 2 of the last column of"),
        ("1,2,0.5\n1,2,inf\n" * 5, "Expected a target of at most 3.4e38 in line 2 of the last column of"),
        ("1,x2,y3\n" * 5, "got 'x2'. Write numbers only, separated by commas. A header must not hold"),
        (
            "1,2,3\n1,2,NA\n" * 5,
            "got 'NA'. Leave out examples without a target; if this is the name of a class, rename the class.",
        ),
        ("1,2,3\n1,2,x\n" * 5, "are numbers, except for 'x' in line 2: write all of them as numbers or all as words,"),
        ("1,2,0.5\n1,2,\n" * 5, "No target in line 2 of the last column of"),
        ("1,2,red\n1,2,\n" * 5, "No target in line 2 of the last column of"),
        *((f"1,2,red\n1,2,{no}\n" * 5, f", got '{no}'") for no in ("<NA>", "#N/A", "NaT", "None")),
        (
            "".join(f"1,word {n}\n" for n in range(60)),
            "are words, and so classes, but there are 60 of them in 60 examples: name the task, classification.",
        ),
        (
            "1,2,a\n",
            "must hold at least five examples of two columns, the last of them the target, separated by commas,",
        ),
        ("1;2;a\n1;x;b\n" * 5, "must be a finite number, got 'x'. Write numbers only, separated by semicolons."),
        ("1\t2\ta\n1\tb\n" * 5, "line 2 must have 3 values like the first, got 2. Complete the line."),
        ("1;2;a\n1,2,b\n" * 5, "separated by commas, semicolons or tabs, got 10 of 1."),
        (
            "1,234;0.5;a\n" * 9,
            "holds numbers with a comma, such as '1,234', and with a point, such as '0.5': that may divide decimals or "
            "thousands. Write decimals with points, and nothing between thousands.",
        ),
        ("1.234;5;0,5\n1.234;5;0,25\n" * 9, "with a comma, such as '0,5', and with a point, such as '1.234': "),
        ("1\t2\ta\n7\t1,234\tb\n" * 9, "holds numbers with a comma, such as '1,234': that may divide decimals"),
        ("1.234,5;7;a\n" * 9, "line 1 column 1 must be a finite number, got '1.234,5'."),
        (",a,b\n0,2,x\n", "must hold at least five examples of two columns, the last of them the target, separated by"),
        (
            "Unnamed: 0,a,b\n" + "".join(f"{n},2,x\n" for n in range(9)),
            "has no name and numbers the lines, as an index does",
        ),
        ("", "must hold at least one example; it is empty. Add a row."),
        (
            ",a,b\n" + "".join(f"{n},2,x\n" for n in range(9)),
            "has no name and numbers the lines, as an index does, and the network would learn from it: leave it",
        ),
        (
            ",0,1,2\n" + "".join(f"{n},2,0.1,x\n" for n in range(9)),
            "has no name and numbers the lines, as an index does, and the network would learn from it: leave it",
        ),
        (
            "".join(f"1,{n}\n" for n in range(100)),
            "are whole numbers, and so classes, but there are 100 of them in 100 examples: name the task, "
            "classification or regression.",
        ),
        ("a,b,label\n" + "1,2,3,x\n" * 9, "has 3 names, but line 2 has 4 values: name every column, or none."),
        ("# exported 2026\n" + "1,2,3,x\n" * 9, "has 1 names, but line 2 has 4 values: name every column, or none."),
        (
            "2019,2020,2021,label\n" + "1,2,3,pos\n1,2,3,neg\n" * 9,
            "Line 1 is not taken as a header, since it holds numbers, but its 'label' occurs nowhere else in the last "
            "column of",
        ),
        (
            ",a,kind\n" + "".join(f"{7 * n % 31},2,x\n" for n in range(9)),
            "has no name and numbers the lines, as an index does, and the network would learn from it: leave it out",
        ),
        (
            '"a,b,c,label\n' + "1,2,3,x\n" * 9,
            "cannot be read as a table (unexpected end of data). Look for a stray quote.",
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
        ('1, "2", "a, b"\n 1, 2, "c"\n' * 5, ("a, b", "c")),
        ("1,2,99999999999999999999\n1,2,5\n" * 5, ("5", "99999999999999999999")),
        ("1,2,0123\n1,2,123\n1,2,0456\n" * 5, ("0123", "0456", "123")),
        ('1,2,"deep\n  red"\n1,2,deep red\n1,2,blue\n' * 5, ("blue", "deep red")),
    ],
)
def test_how_tables_are_written(tmp_path: Path, text: str, classes: tuple[str, ...]) -> None:
    path = tmp_path / "T.CSV"
    path.write_text(text, encoding="utf-8", newline="")
    assert load(str(path)).classes == classes


def test_true_and_false_are_numbers_among_inputs_and_classes_among_targets(tmp_path: Path) -> None:
    """As pandas writes what get_dummies made of words."""
    path = tmp_path / "t.csv"
    path.write_text("size,red,blue,sold\n" + "1.5,True,False,True\n2.5, FALSE,true,False\n" * 10)
    data = load(str(path))
    assert data.classes == ("False", "True")
    rows = zip(data.x_train.tolist(), data.y_train.tolist(), strict=True)
    assert {(*x, y) for x, y in rows} == {(1.5, 1, 0, 1), (2.5, 0, 1, 0)}
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    path.write_text("True,False,1\nFalse,True,2\n")  # no header
    assert load_inputs(path, whole).tolist() == [[1, 0, 1], [0, 1, 2]]
    path.write_text("True,False,yes\nFalse,True,no\n" * 5)
    assert load(str(path)).columns is None
    path.write_text("True,perhaps,1\n")
    with pytest.raises(BrodmannError, match="line 1 column 2 must be a finite number, got 'perhaps'"):
        load_inputs(path, whole)


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
    assert "has 3 columns, but the network learned from 2: leave the targets out" in capsys.readouterr().err


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


def test_predicting_takes_columns_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run = write(tmp_path / "t.csv", ["x", "y"] * 20, "a,b,c,kind"), str(tmp_path / "run")
    main(["train", str(path), "--epochs", "3", "--width", "4", "--no-figures", "--out", run, "--json"])
    texts = {
        "same": "a,b,c\n1,-2,3\n-3,1,2\n",
        "nameless": "1,-2,3\n-3,1,2\n",
        "turned": "b,c,kind,a\n-2,3,x,1\n1,2,,-3\n",  # what is no input may be anything
        "lacking": "a,b,d\n1,2,3\n",
    }
    said = {}
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
        capsys.readouterr()
        if name == "lacking":
            with pytest.raises(SystemExit, match="2"):
                main(["predict", run, str(tmp_path / f"{name}.csv")])
            assert "has no column 'c', which the training data has, only a, b, d: add it" in capsys.readouterr().err
        else:
            main(["predict", run, str(tmp_path / f"{name}.csv"), "--json"])
            said[name] = json.loads(capsys.readouterr().out)["predictions"]
    assert said["same"] == said["nameless"] == said["turned"]


def test_the_target_is_a_column_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, path, run = np.random.default_rng(0), tmp_path / "t.csv", str(tmp_path / "run")
    lines = [f"{a},{3 * a + 5:.0f},{b}" for a, b in rng.integers(0, 100, (200, 2))]
    path.write_text("\n".join(["a,price,b", *lines]) + "\n")
    main(["train", str(path), "--target", "price", "--task", "regression", "--out", run, "--no-figures"])
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_r2"] > 0.9
    assert json.loads((tmp_path / "run" / "config.json").read_text())["columns"] == ["a", "b"]
    capsys.readouterr()
    main(["evaluate", run])  # reads the table again, the same way
    main(["predict", run, str(path), "--json"])  # whose target is no input
    predictions = json.loads(capsys.readouterr().out.splitlines()[-1])["predictions"]
    assert np.corrcoef([float(line.split(",")[1]) for line in lines], [row[0] for row in predictions])[0, 1] > 0.95


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("a,b,c,kind", {"target": "knd"}, "Unknown column 'knd'. Did you mean 'kind'? Choose one of: a, b, c, kind."),
        ("", {"target": "kind"}, "has no header, so no column is named 'kind': give it a header, or leave the target"),
        ("", {"task": "regresion"}, "Unknown task 'regresion'. Did you mean 'regression'? Choose one of: class"),
        ("", {"task": "regression"}, "Expected a number as target in line 2 of the last column of"),
        ("a,b,c,kind", {"target": "a", "task": "classification"}, "are to be classes, but there are 40 of them in 40"),
    ],
)
def test_targets_and_tasks_that_do_not_fit(tmp_path: Path, header: str, options: dict[str, str], message: str) -> None:
    targets = ["1", "x"] * 20 if "task" in options and "target" not in options else ["1", "2"] * 20
    with pytest.raises(BrodmannError) as caught:
        load(str(write(tmp_path / "t.csv", targets, header)), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_whole_numbers_with_a_point_may_be_either(tmp_path: Path) -> None:
    """As NumPy and pandas write classes that were once floating-point numbers."""
    path = tmp_path / "table.csv"
    with pytest.raises(BrodmannError, match="are whole numbers written with a point, such as 0.0, and may be classes"):
        load(str(write(path, ["0.0", "1.0", "2.0"] * 20)))
    assert load(str(path), task="classification").classes == ("0.0", "1.0", "2.0")
    assert load(str(path), task="regression").classes is None
    assert load(str(write(path, [f"{number}.0" for number in range(60)]))).classes is None


def test_a_task_says_what_whole_numbers_are(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["1", "2", "4", "4"] * 10)
    assert load(str(path)).classes == ("1", "2", "4")
    assert load(str(path), task="classification").classes == ("1", "2", "4")
    real = load(str(path), task="regression")
    assert real.classes is None
    assert sorted(set(real.y_train[:, 0].tolist())) == [1.0, 2.0, 4.0]
    assert load(str(write(path, ["1.0", "2.5"] * 20)), task="classification").classes == ("1.0", "2.5")
    with pytest.raises(BrodmannError, match="apply only to tables of text .*, and 'digits' is not one"):
        load("digits", task="regression")


def test_real_targets_that_are_all_equal_teach_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(write(tmp_path / "t.csv", ["0.5"] * 20)), "--out", str(tmp_path / "run")])
    assert "All training targets of" in capsys.readouterr().err
    main(["train", str(write(tmp_path / "t.csv", ["0.5", "1.5"] * 4)), "--epochs", "1", "--out", str(tmp_path / "run")])
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["validation_r2"] is None  # of one sample
    assert result["test_r2"] is None or result["test_r2"] > -1e6


def test_predicting_the_table_itself_says_what_is_too_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run = write(tmp_path / "t.csv", ["x", "y"] * 20), str(tmp_path / "run")
    main(["train", str(path), "--epochs", "1", "--width", "4", "--no-figures", "--out", run])
    with pytest.raises(SystemExit, match="2"):
        main(["predict", run, str(path)])
    assert "has 4 columns, but the network learned from 3: leave the targets out." in capsys.readouterr().err


def test_names_that_are_equal_but_for_blanks_are_none(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a, a,kind\n" + "1,2,x\n3,4,y\n" * 9)
    with pytest.raises(BrodmannError, match="line 1 column 1 must be a finite number, got 'a'.*or a name twice"):
        load(str(path))


TABLE = 'size,"weight, kg",n,kind\n' + '1.5,-2e3,3,"red, or; rose"\n-0.25,7,12,white\n' * 5


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("separator", "name", "comma"),
    [
        (";", "t.csv", False),
        (";", "t.csv", True),
        ("\t", "t.csv", False),
        ("\t", "t.TSV", False),
        (",", "t.tsv", False),
    ],
)
def test_semicolons_and_tabs_separate_too(tmp_path: Path, named: bool, separator: str, name: str, comma: bool) -> None:
    """Spreadsheets write semicolons where 1,5 is a decimal."""
    text = TABLE if named else TABLE.split("\n", 1)[1]
    (tmp_path / "same.csv").write_text(text)
    written = re.sub(r'"[^"]*"|,', lambda match: separator if match[0] == "," else match[0], text)
    (tmp_path / name).write_text(written.replace(".", ",") if comma else written)
    data, same = load(tmp_path / name), load(tmp_path / "same.csv")
    assert data.digest == same.digest
    assert data.columns == same.columns
    assert data.classes == ("red, or; rose", "white")
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    (tmp_path / name).write_text(separator.join(["1,5" if comma else "1.5", "2", "3"]))
    assert load_inputs(tmp_path / name, whole, data.columns).tolist() == [[1.5, 2, 3]]


def test_decimal_commas_among_targets(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b;price\n" + "1;2;0,5\n3;4;1,25\n" * 5)
    assert sorted({*load(path).y_train[:, 0].tolist()}) == [0.5, 1.25]


@pytest.mark.parametrize("text", ["1,5\t2,5\n1\t2\n", "1,5;2,5\n3.5;2\n"])
def test_commas_that_may_divide_thousands_are_no_names(tmp_path: Path, text: str) -> None:
    """Or an answer would be missing in silence."""
    path = tmp_path / "t.csv"
    path.write_text(text)
    whole = Preprocessing((0.0,) * 2, (1.0,) * 2, grey=False, flat=True, shape=(2,))
    with pytest.raises(BrodmannError, match="holds numbers with a comma, such as '1,5'"):
        load_inputs(path, whole)


@pytest.mark.parametrize("plain", [0, 1, 9])
def test_a_blank_beside_a_quote_is_no_stray_quote(tmp_path: Path, plain: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text("5,6,x\n" * plain + '"1" ,"2","x"\n3,4,"y" \n' * 9)
    data = load(str(path))
    assert data.classes == ("x", "y")
    assert len(data.x_train) + len(data.x_test) == plain + 18


def test_a_quote_that_is_never_closed_is_told_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n" + "5,6,x\n" * 9 + '7,8,"y\n' + "7,8,y\n" * 9)
    with pytest.raises(BrodmannError, match=r"\(unexpected end of data\)\. Look for a stray quote\.$"):
        load(str(path))


def test_memory_holds_the_numbers_and_not_the_text(tmp_path: Path) -> None:
    """All cells as Python's strings take 15 times the file."""
    path = write(tmp_path / "t.csv", ["x", "y"] * 2500, columns=20)
    load(str(path))  # imports what takes memory once
    tracemalloc.start()
    load(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * path.stat().st_size


def test_predicting_passes_an_index_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run = write(tmp_path / "t.csv", ["x", "y"] * 20, "a,b,c,kind"), str(tmp_path / "run")
    main(["train", str(path), "--epochs", "1", "--width", "4", "--no-figures", "--out", run])
    (tmp_path / "plain.csv").write_text("a,b,c\n1,-2,3\n-3,1,2\n")
    (tmp_path / "pandas.csv").write_text(",c,b,a\n0,3,-2,1\n1,2,1,-3\n")
    said = []
    for name in ("plain", "pandas"):
        capsys.readouterr()
        main(["predict", run, str(tmp_path / f"{name}.csv")])
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_rows_of_empty_cells_are_no_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["0", "1"] * 10, "a,b,c,t")
    path.write_text(path.read_text() + "\n  \n")
    assert len(load(str(path)).x_train) == 16
    path.write_text(path.read_text() + ",,,\n")
    with pytest.raises(BrodmannError, match="line 24 column 1 must be a finite number, got nothing: fill gaps first"):
        load(str(path))


def test_years_above_other_numbers_are_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["0", "1"] * 10, "2019,2020,2021,2022")
    data = load(str(path))
    assert data.classes == ("0", "1")
    assert data.columns == ("2019", "2020", "2021")
    path.write_text("\n".join(f"{1950 + i},{1970 + i},{1990 + i},{i % 2}" for i in range(20)))
    assert load(str(path)).columns is None
    path.write_text("\n".join(f"{1950 + i},{1970 + i},{1990 + i},{2000 + i % 2}" for i in range(20)))
    assert load(str(path)).columns is None  # years themselves
    path.write_text("1950,1960,1990\n" + "\n".join(f"1955,1955,{1991 + i % 2}" for i in range(20)))
    assert load(str(path)).columns is None
    path.write_text(",2019,2020,2021\n" + "\n".join(f"{1990 + i // 2},{i},{2 * i},{i % 2}" for i in range(20)))
    assert load(str(path)).columns == ("", "2019", "2020")  # below a cell without a name years say nothing


@pytest.mark.parametrize("header", ["0,1,2", "2019,2020,2021", "a,b,t"])
def test_a_header_of_the_training_data_is_one_in_samples_too(
    tmp_path: Path, header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = write(tmp_path / "t.csv", ["0", "1"] * 20, header, columns=2), str(tmp_path / "run")
    main(["train", str(path), "--epochs", "1", "--out", run, "--no-figures"])
    samples = tmp_path / "samples.csv"
    for first in ("", header.rsplit(",", 1)[0] + "\n"):
        samples.write_text(first + "1,2\n3,4\n-1,0\n")
        capsys.readouterr()
        main(["predict", run, str(samples)])
        assert len(capsys.readouterr().out.split()) == 3


@pytest.mark.parametrize("targets", [["0", "1"], ["0.25", "-1.5"]])
def test_other_whole_numbers_above_decimals_may_be_a_header(tmp_path: Path, targets: list[str]) -> None:
    path = write(tmp_path / "t.csv", targets * 10, "2021,2019,2022,2020")
    with pytest.raises(BrodmannError, match=r"Line 1 of .*/t.csv holds whole numbers above decimals, as a header does"):
        load(str(path))
    write(path, targets * 10, "2021.0,2019,2022,1")  # as the message says
    assert load(str(path)).columns is None


@pytest.mark.parametrize("first", ["5,3,1,0", "2,1,3,0", "3,1,2,7"])
@pytest.mark.parametrize("below", ["4,2,2,1", "0.5,1,2.5,1", "1.5,2,2.5,0"])
def test_whole_numbers_above_whole_numbers_are_an_example(tmp_path: Path, first: str, below: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join([first, "0,5,1,1", "1,3,2,0", *[below] * 20]) + "\n")
    data = load(str(path), task="classification")
    assert data.columns is None
    assert len(data.x_train) + len(data.x_test) == 23


@pytest.mark.parametrize(
    ("header", "targets", "target"),
    [
        ("0,1,2,target", ["0", "1"], None),  # as pandas writes a frame without names and one more column
        ("1,2,3,target", ["0.25", "-1.5"], None),
        ("0,1,2,target", ["0", "1"], "target"),
        ("0,1,2,species", ["red", "white"], "species"),
        ("400.5,410.5,420.5,label", ["red", "white"], "label"),
    ],
)
def test_numbers_beside_words_may_be_a_header(
    tmp_path: Path, header: str, targets: list[str], target: str | None
) -> None:
    path = write(tmp_path / "t.csv", targets * 10, header)
    data = load(str(path), target=target)
    assert data.columns == tuple(header.split(",")[:3])
    assert len(data.x_train) + len(data.x_test) == 20
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    assert len(load_inputs(path, whole, data.columns)) == 20  # the table itself, whose targets are no inputs
    inputs = [line.rsplit(",", 1)[0] for line in path.read_text().splitlines()]
    for lines in (inputs, inputs[1:]):
        (tmp_path / "s.csv").write_text("\n".join(lines))
        assert len(load_inputs(tmp_path / "s.csv", whole, data.columns)) == 20


@pytest.mark.parametrize(
    ("first", "targets", "message"),
    [
        ("1,2,3,red", ["red", "white"], None),
        ("1,2,3,red", ["blue", "white"], "Line 1 is not taken as a header, since it holds numbers, but its 'red'"),
        ("0,1,2,?", ["0.25", "1.5"], "No target in line 1 of the last column of"),
        ("5,9,2,y", ["0.25", "1.5"], "Line 1 is not taken as a header, since it holds numbers: if it is one, name the"),
    ],
)
def test_numbers_before_a_word_may_be_an_example(
    tmp_path: Path, first: str, targets: list[str], message: str | None
) -> None:
    path = write(tmp_path / "t.csv", targets * 10, first)
    if message is None:
        assert len(load(str(path)).x_train) + len(load(str(path)).x_test) == 21
        with pytest.raises(BrodmannError, match="has no header, so no column is named 'red'"):
            load(str(path), target="red")
        return
    with pytest.raises(BrodmannError, match=re.escape(message)):
        load(str(path))


@pytest.mark.parametrize("columns", [None, ("a", "b", "c", "d"), ("0", "1", "2", "3")])
def test_a_sample_with_a_word_is_no_header(tmp_path: Path, columns: tuple[str, ...] | None) -> None:
    whole = Preprocessing((0.0,) * 4, (1.0,) * 4, grey=False, flat=True, shape=(4,))
    (tmp_path / "s.csv").write_text("0,1,2,unknown\n" + "0.5,1.5,2.5,3.5\n" * 12)
    with pytest.raises(BrodmannError, match="line 1 column 4 must be a finite number, got 'unknown'"):
        load_inputs(tmp_path / "s.csv", whole, columns)


DECIMALS = [[0.5, -1.25, 2.75], [1.5, 0.25, -0.5], [-2.5, 3.25, 0.75]]


@pytest.mark.parametrize(
    ("training", "samples", "order"),
    [
        ("0,1,2,3", "1,0,2", (1, 0, 2)),
        ("0,1,2,3", "3,2,1,0", (3, 2, 1, 0)),  # a target, too
        ("0,1,2,3", "0,1,2,3", (0, 1, 2, 3)),
        ("1,2,3,4", "3,2,1", (2, 1, 0)),
        ("1,2,3,4", "0,1,2", (0, 1, 2)),  # another count of the same columns
        ("a,b,c,y", "1,2,3", (0, 1, 2)),
        ("", "1,2,3", (0, 1, 2)),
        ("2019,2020,2021,2022", "2021,2019,2020", (2, 0, 1)),
    ],
)
def test_samples_may_name_columns_by_numbers(
    tmp_path: Path, training: str, samples: str, order: tuple[int, ...]
) -> None:
    path = write(tmp_path / "t.csv", ["0", "1"] * 10, training)
    columns = load(str(path)).columns
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    rows = ["".join(f"{[*row, 9.5][place]}," for place in order)[:-1] for row in DECIMALS]
    (tmp_path / "s.csv").write_text("\n".join([samples, *rows]))
    assert load_inputs(tmp_path / "s.csv", whole, columns).tolist() == DECIMALS


@pytest.mark.parametrize("training", ["0,1,2,3", "1,2,3,4", "a,b,c,y", ""])
@pytest.mark.parametrize("first", ["2,1,0", "2,1,3", "1,2,3", "7,0,5"])
def test_whole_numbers_above_few_whole_numbers_are_a_sample(tmp_path: Path, training: str, first: str) -> None:
    """One answer less than there are rows would be noticed late, if at all."""
    columns = load(str(write(tmp_path / "t.csv", ["0", "1"] * 10, training))).columns
    if columns and first == ",".join(columns):
        return
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    (tmp_path / "s.csv").write_text(f"{first}\n4,5,6\n0,2,2\n")
    assert len(load_inputs(tmp_path / "s.csv", whole, columns)) == 3
    (tmp_path / "s.csv").write_text(f"{first}\n")
    assert len(load_inputs(tmp_path / "s.csv", whole, columns)) == 1


def test_a_named_column_that_comes_twice_is_named(tmp_path: Path) -> None:
    columns = load(str(write(tmp_path / "t.csv", ["0", "1"] * 10, "a,b,c,y"))).columns
    whole = Preprocessing((0.0,) * 3, (1.0,) * 3, grey=False, flat=True, shape=(3,))
    (tmp_path / "s.csv").write_text("a,b,c,a\n1,2,3,4\n")
    with pytest.raises(BrodmannError, match="has the column 'a' 2 times: keep only one"):
        load_inputs(tmp_path / "s.csv", whole, columns)
