"""Benchmarks: statistics against known values, honest journals, planted cheats, streams, and the command line."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from brodmann import Network, mlp
from brodmann.baselines import Backpropagation
from brodmann.bench import stream_learners
from brodmann.bench.audit import audit
from brodmann.bench.case import Case
from brodmann.bench.cost import learning_operations
from brodmann.bench.journal import Journal, read_journal
from brodmann.bench.paper import initialise
from brodmann.bench.recipes import PAPER_METHODS, Plan, cases_of, ten
from brodmann.bench.runner import run_recipes, searches
from brodmann.bench.statistics import (
    average_ranks,
    critical_difference,
    difference,
    error_ratio,
    holm,
    interval,
    pack,
    unpack,
)
from brodmann.bench.streams import continual_scores, tasks_of
from brodmann.bench.tables import Table
from brodmann.bench.tasks import run_case, silent_units
from brodmann.bench.tuner import candidates, choose, settled, stored_choices, trials_of
from brodmann.cli import main
from brodmann.errors import BrodmannError
from brodmann.options import RunOptions
from brodmann.telemetry import class_conflict

TIMES = ("seconds", "step_seconds", "wall_seconds", "peak_rss_mb")


@pytest.fixture
def blobs(tmp_path: Path) -> str:
    """A small classification set of four blobs."""
    generator = np.random.default_rng(0)
    y = np.arange(240) % 4
    x = (generator.normal(size=(240, 9)) + 2 * y[:, None]).astype(np.float32)
    path = tmp_path / "blobs.npz"
    np.savez(path, x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    return str(path)


def without_times(row: dict) -> dict:
    row = {name: value for name, value in row.items() if name not in TIMES}
    row["curve"] = [[step, accuracy] for step, _, accuracy in row["curve"]]
    return row


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_holm_matches_its_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


def test_the_critical_difference_is_that_of_the_published_table() -> None:
    # Demsar 2006, table 5: q = 2.728 for five methods at 5 %.
    assert critical_difference(5, 30) == pytest.approx(2.728 * math.sqrt(5 * 6 / (6 * 30)), rel=1e-3)


def test_two_seeds_give_no_p_value() -> None:
    right = np.ones((2, 50), dtype=bool)
    assert math.isnan(difference(right, ~right).p)


def test_ranks_share_ties() -> None:
    assert average_ranks(np.array([[0.9, 0.8, 0.8], [0.7, 0.9, 0.5]])) == pytest.approx([1.5, 1.75, 2.75])


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packed_answers_come_back(right: list[bool]) -> None:
    assert unpack(pack(np.array(right)), len(right)).tolist() == right


def test_a_method_does_not_differ_from_itself() -> None:
    right = np.random.default_rng(0).random((5, 200)) < 0.9
    same = difference(right, right)
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert error_ratio({"a": (right, right)}) == pytest.approx((1.0, 1.0, 1.0))


def test_a_clear_difference_is_found_and_its_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.random((10, 2000)) < 0.95, generator.random((10, 2000)) < 0.90
    found = difference(ours, theirs)
    assert found.low < 5.0 < found.high
    assert found.low > 0
    assert found.p < 1e-3
    ratio, low, high = error_ratio({"a": (ours, theirs)})
    assert low < 5.5 / 10.5 < high
    assert low < ratio < high < 1


def test_the_bootstrap_interval_of_a_mean_is_about_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(2).normal(3.0, 2.0, 400)
    low, high = interval(values.tolist())
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(400), rel=0.15)


# ---- rows and choices ------------------------------------------------------------------------------------------------


def test_a_journal_forgets_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append({"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    journal = Journal(path)
    journal.append({"a": 3})
    assert [row["a"] for row in journal.rows()] == [1, 3]


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("no json\n")
    with pytest.raises(BrodmannError, match=r"rows\.jsonl is damaged or was not written by brodmann bench"):
        read_journal(path)


def test_equal_cases_have_equal_keys_and_others_do_not() -> None:
    case = Case("ten", "SAL", RunOptions("digits"))
    assert case.key == Case("ten", "SAL", RunOptions("digits")).key
    others = [
        replace(case, options=replace(case.options, seed=1)),
        replace(case, trial=True),
        replace(case, detail={"every": 5}),
    ]
    assert len({case.key, *(other.key for other in others)}) == 4


def test_every_method_tries_the_same_settings_and_trials_leave_the_test_part_closed(blobs: str) -> None:
    one = Case("ten", "a", RunOptions(blobs, width=8, areas=2, epochs=1), searched=True)
    other = replace(one, method="b", options=replace(one.options, rule="backprop"))
    tried = [[(t.options.lr, t.options.decay, t.options.dropout) for t in trials_of(case, 5)] for case in (one, other)]
    assert tried[0] == tried[1]
    assert len(set(tried[0])) == 5
    assert candidates(3) == candidates(9)[:3]
    row = run_case(trials_of(one, 1)[0])
    assert row["test_reads"] == 0
    assert not {"test", "correct"} & row.keys()
    assert run_case(settled(one, {blobs: {"a": candidates(1)[0]}}))["test_reads"] == 1


def test_the_best_mean_validation_score_is_chosen_and_the_first_of_equals() -> None:
    def trial(place: int, seed: int, score: float) -> dict:
        options = {**candidates(3)[place], "seed": seed}
        return {"dataset": "d", "method": "m", "detail": {}, "options": options, "validation": score}

    rows = [trial(0, 0, 0.9), trial(0, 1, 0.5), trial(2, 0, 0.8), trial(2, 1, 0.8), trial(1, 0, 0.8), trial(1, 1, 0.8)]
    chosen = choose(rows)["d"]["m"]
    assert {name: chosen[name] for name in ("lr", "decay", "dropout")} == candidates(3)[1]
    assert (chosen["trials"], chosen["validation"]) == (3, 0.8)


def test_choices_that_come_with_the_package_save_the_search_and_pass_their_own_audit() -> None:
    stored = stored_choices()
    cases = ten(Plan(seeds=1, protocols=("tuned",), sets=("digits",)))
    wanted, known = searches(cases, 8, stored)
    assert wanted == []
    assert known["digits"].keys() == {case.method for case in cases}
    bench = Path(__file__).parent.parent / "docs" / "bench" / "ten"
    rows, trials = read_journal(bench / "rows.jsonl.gz"), read_journal(bench / "trials.jsonl.gz")
    choices, plan = (json.loads((bench / name).read_text()) for name in ("choices.json", "plan.json"))
    assert audit(rows, trials, choices, plan) == []
    assert choices == stored


# ---- costs, initial values, layers -----------------------------------------------------------------------------------


def test_methods_are_chosen_by_the_names_that_tables_call_them() -> None:
    plan = Plan(seeds=2, protocols=("tuned",), sets=("digits",), methods=("SAL, 16 areas", "Kolen-Pollack"))
    assert [case.method for case in cases_of("ten", plan)] == ["SAL, 16 areas", "Kolen-Pollack"] * 2
    with pytest.raises(BrodmannError, match="Unknown method 'SAL, 15 areas'. Did you mean 'SAL, 1"):
        cases_of("ten", replace(plan, methods=("SAL, 15 areas",)))


def test_operations_are_counted_as_by_hand() -> None:
    dense = Backpropagation(7, 3, width=5)
    assert learning_operations(dense) == 2 * (2 * 35 + 3 * 15)
    assert learning_operations(Backpropagation(7, 3, width=5, readout_only=True)) == 2 * (35 + 2 * 15)
    assert learning_operations(Network(mlp(7, 3, width=5, areas=1, feedback="transpose"))) == 2 * (2 * 35 + 3 * 15)
    # Kolen-Pollack moves its feedback weights by the gradient of the shared part; noisy ones need their own.
    assert learning_operations(Network(mlp(7, 3, width=5, areas=1))) == 2 * (2 * 35 + 3 * 15)
    noisy = Network(mlp(7, 3, width=5, areas=1, feedback="kolen-pollack-noisy"))
    assert learning_operations(noisy) == 2 * (2 * 35 + 4 * 15)
    # Direct feedback's matrix is (outputs, units), whatever lies above.
    assert learning_operations(Network(mlp(7, 3, width=5, areas=1, feedback="direct"))) == 2 * (2 * 35 + 2 * 15 + 15)
    first, second = 2 * 2 * (2 * 7 + 4 * 2), 2 * 2 * (2 * 5 + 4 * 2)
    for routing, routers in (("network", first), ("layer", first + second)):
        areas = learning_operations(Network(mlp(7, 3, width=5, areas=4, routing=routing, router={"dimension": 2})))
        assert areas == 2 * (4 * 35 + (4 + 1) * 15) + routers
    options = {"width": 5, "areas": 4, "routing": "layer", "router": {"dimension": 2}}
    per_area = learning_operations(Network(mlp(7, 3, feedback="kolen-pollack-per-area", **options)))
    assert per_area == 2 * (4 * 35 + (4 + 3) * 15) + first + second
    apart = learning_operations(Network(mlp(7, 3, shared="off", **options)))
    assert apart == 2 * (2 * 35 + (2 + 2) * 15) + first + second
    transposed = learning_operations(Network(mlp(7, 3, feedback="transpose", **options)))
    assert transposed == 2 * (4 * 35 + (4 + 2) * 15) + first + second


@pytest.mark.parametrize("changes", [{}, {"shared": "off", "areas": 4}, {"areas": 4}])
def test_the_published_protocol_starts_every_method_from_the_same_function(changes: dict) -> None:
    twin, network = Backpropagation(70, 3, width=50), Network(mlp(70, 3, width=50, **{"areas": 1, **changes}))
    initialise(twin, 3)
    initialise(network, 3)
    x = torch.randn(20, 70)
    assert torch.allclose(twin(x), network(x), atol=1e-5)
    weight = next(twin.parameters()).detach()
    assert float(weight.std()) == pytest.approx((2 / 70) ** 0.5, rel=0.06)


def test_last_layer_only_moves_the_last_layer_alone() -> None:
    torch.manual_seed(0)
    learner = Backpropagation(7, 3, width=5, readout_only=True)
    before = copy.deepcopy(learner.state_dict())
    learner.learn_with_output(torch.randn(9, 7), torch.randint(3, (9,)), lr=0.1)
    moved = {name for name, value in learner.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"body.3.weight", "body.3.bias"}


def test_silent_units_are_counted() -> None:
    network = Network(mlp(4, 2, width=6, areas=1))
    layer = network.area_layers()[0][1]
    layer.shared.value.data.zero_()
    layer.shared_bias.value.data.copy_(torch.tensor([[1.0, 1.0, -1.0, -1.0, -1.0, 1.0]]))
    assert silent_units(network, torch.randn(5, 4)) == [0.5]


def test_conflict_between_classes_is_that_of_the_formed_gradients() -> None:
    torch.manual_seed(0)
    network = Network(mlp(6, 3, width=5, areas=3, feedback="transpose", shared="off", routing="network"))
    x, y = torch.randn(40, 6), torch.randint(3, (40,))
    for _ in range(5):
        network.learn(x, y, lr=0.05)
    row = class_conflict(network, x, y)[-1]
    # The readout's gradient, formed for every class in one map: softmax minus target over the hidden activations.
    with torch.no_grad():
        error = (network(x).softmax(1) - torch.nn.functional.one_hot(y, 3)).double() / 40
        hidden = torch.relu(network.area_layers()[0][1](x, network.body.router(x))).double()
    hidden = torch.cat([hidden, torch.ones(40, 1)], 1)
    area = network.body.router(x)[0]

    def cancelled(groups: list[torch.Tensor]) -> float:
        kept = total = 0.0
        for rows in groups:
            pulls = [(error * (rows & (y == c))[:, None]).t() @ hidden for c in range(3)]
            kept += float(sum(pulls).norm())
            total += sum(float(pull.norm()) for pull in pulls)
        return 1 - kept / total

    assert row.pooled == pytest.approx(cancelled([torch.ones(40, dtype=torch.bool)]), abs=1e-5)
    assert row.inside_areas == pytest.approx(cancelled([area == index for index in range(3)]), abs=1e-5)


def test_one_class_is_in_no_conflict() -> None:
    network = Network(mlp(6, 3, width=5, areas=3))
    for row in class_conflict(network, torch.randn(10, 6), torch.zeros(10, dtype=torch.int64)):
        assert row.pooled == pytest.approx(0.0, abs=1e-6)
        assert row.opposed_pooled == row.opposed_inside == 0.0


# ---- streams ---------------------------------------------------------------------------------------------------------


def test_scores_of_a_stream_follow_their_definitions() -> None:
    matrix = [[0.9, 0.1, 0.0], [0.95, 0.8, 0.1], [0.6, 0.7, 0.9]]
    scores = continual_scores(matrix)
    assert scores["average_accuracy"] == pytest.approx((0.6 + 0.7 + 0.9) / 3)
    assert scores["forgetting"] == pytest.approx((0.35 + 0.1) / 2)
    assert scores["backward_transfer"] == pytest.approx((-0.3 - 0.1) / 2)


def stream_case(blobs: str, **detail: object) -> Case:
    options = RunOptions(blobs, width=16, areas=4, epochs=1, batch_size=16, routing="network")
    return Case("interference", "m", options, task="stream", detail={"learner": "areas", **detail})


def test_a_split_stream_shows_every_class_once_and_a_trial_sees_no_test_part(blobs: str) -> None:
    stream = tasks_of(stream_case(blobs, stream="split", tasks=2))
    assert [task.y.unique().tolist() for task in stream.tasks] == [[0, 1], [2, 3]]
    assert stream.reads == 1
    assert tasks_of(replace(stream_case(blobs, stream="split", tasks=2), trial=True)).reads == 0
    with pytest.raises(BrodmannError, match="4 classes cannot be split into 3 tasks"):
        tasks_of(stream_case(blobs, stream="split", tasks=3))
    with pytest.raises(BrodmannError, match="Unknown stream 'spilt'. Did you mean 'split'"):
        tasks_of(stream_case(blobs, stream="spilt", tasks=2))


def test_permuted_tasks_hold_the_same_numbers_in_other_places(blobs: str) -> None:
    first, second = tasks_of(stream_case(blobs, stream="permuted", tasks=2)).tasks
    assert not torch.equal(first.x, second.x)
    assert torch.equal(first.x.sort(1).values, second.x.sort(1).values)


def test_a_mixture_keeps_the_classes_of_its_sets_apart(blobs: str) -> None:
    (task,) = tasks_of(stream_case(blobs, stream="mixture", others=["digits"])).tasks
    assert task.x.shape[1] == 64
    assert [sorted(y.unique().tolist()) for _, y in task.parts] == [[0, 1, 2, 3], list(range(4, 14))]


@pytest.mark.parametrize("name", sorted(stream_learners.LEARNERS))
def test_every_stream_learner_learns_four_blobs_at_once(blobs: str, name: str) -> None:
    case = stream_case(blobs, stream="split", tasks=1, strength=1.0, memory=20)
    options = replace(case.options, rule="backprop" if name in ("dense", "elastic", "replay") else "kolen-pollack")
    case = replace(case, options=replace(options, lr=1e-2, batch_size=4), detail={**case.detail, "learner": name})
    row = run_case(case)
    assert row["test"] > 0.6
    assert row["test_reads"] == 1
    assert row["total"] > 0


def test_nearest_mean_and_streaming_discriminant_equal_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 5, generator=generator) + y[:, None]
    case = stream_case("unused", stream="split", tasks=1)
    nearest = stream_learners.NearestMean(case, 5, 3)
    monkeypatch.setattr(stream_learners.StreamingDiscriminant, "RIDGE", 0.0)
    discriminant = stream_learners.StreamingDiscriminant(case, 5, 3)
    for rows in torch.split(torch.randperm(300, generator=generator), 16):
        nearest.learn(x[rows], y[rows])
        discriminant.learn(x[rows], y[rows])
    assert nearest.predict(x).tolist() == NearestCentroid().fit(x, y).predict(x).tolist()
    features = discriminant._features(x).numpy()
    reference = LinearDiscriminantAnalysis("lsqr").fit(features, y)  # 16 random features of 5 inputs: no singularity
    assert (discriminant.predict(x).numpy() == reference.predict(features)).mean() > 0.99


def test_the_reservoir_is_a_fair_sample(blobs: str) -> None:
    counts: Counter[int] = Counter()
    for seed in range(60):
        torch.manual_seed(seed)
        case = stream_case(blobs, stream="split", tasks=1, memory=10)
        case = replace(case, options=replace(case.options, rule="backprop", width=4))
        learner = stream_learners.Replay(case, 1, 2)
        for start in range(0, 40, 8):
            x = torch.arange(start, start + 8.0)[:, None] / 40
            learner.learn(x, torch.zeros(8, dtype=torch.int64))
        counts.update(round(40 * value) for value in learner.x[:, 0].tolist())
    quarters = [sum(counts[i] for i in range(start, start + 10)) for start in range(0, 40, 10)]
    assert sum(quarters) == 600
    assert all(abs(count - 150) < 60 for count in quarters)  # 5 standard deviations


def test_consolidation_holds_weights_that_mattered(blobs: str) -> None:
    def moved(strength: float) -> float:
        torch.manual_seed(0)
        case = stream_case(blobs, stream="split", tasks=2, strength=strength)
        case = replace(case, options=replace(case.options, rule="backprop", optimiser="sgd", lr=0.01))
        learner = stream_learners.ElasticConsolidation(case, 9, 4)
        first, second = tasks_of(case).tasks
        learner.learn(first.x, first.y)
        learner.end_task(first.x, first.y)
        for _ in range(20):
            learner.learn(second.x, second.y)
        return sum(
            float((f * (w.detach() - a).square()).sum())
            for f, w, a in zip(learner.fisher, learner.network.parameters(), learner.anchors, strict=True)
        )

    assert moved(10.0) < 0.7 * moved(0.0)


# ---- audit -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny benchmark of two methods' worth of rows, run for real."""
    folder = tmp_path_factory.mktemp("bench")
    generator = np.random.default_rng(0)
    y = np.arange(160) % 4
    x = (generator.normal(size=(160, 9)) + 2 * y[:, None]).astype(np.float32)
    data = folder / "blobs.npz"
    np.savez(data, x_train=x[:120], y_train=y[:120], x_test=x[120:], y_test=y[120:])
    run_recipes(["ten"], Plan(quick=True, sets=(str(data),)), folder / "out", jobs=2, trials=2, search=True)
    return folder / "out"


def parts(folder: Path) -> tuple[list, list, dict, dict]:
    rows, trials = read_journal(folder / "rows.jsonl"), read_journal(folder / "trials.jsonl")
    return (
        rows,
        trials,
        json.loads((folder / "choices.json").read_text()),
        json.loads((folder / "plan.json").read_text()),
    )


def test_an_honest_benchmark_passes_the_audit(small_bench: Path) -> None:
    assert audit(*parts(small_bench)) == []


def cheat_choice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    (methods,) = choices.values()
    other = next(c for c in candidates(2) if c["lr"] != methods["SAL, 16 areas"]["lr"])
    methods["SAL, 16 areas"].update(other)
    for row in rows:
        if row["method"] == "SAL, 16 areas" and row["protocol"] == "tuned":
            row["options"].update(other)


def cheat_settings(rows: list, trials: list, choices: dict, plan: dict) -> None:
    next(row for row in rows if row["protocol"] == "tuned")["options"]["lr"] = 0.123


def cheat_twice(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["test_reads"] = 2


def cheat_again(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.append(copy.deepcopy(rows[0]))


def cheat_trial(rows: list, trials: list, choices: dict, plan: dict) -> None:
    trials[0]["test"] = 0.9


def cheat_data(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[3]["digest"] = "0" * 64


def cheat_seed(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows.pop()


def cheat_seed_and_plan(rows: list, trials: list, choices: dict, plan: dict) -> None:
    plan.pop(rows.pop()["key"])


def cheat_code(rows: list, trials: list, choices: dict, plan: dict) -> None:
    rows[0]["code"] = "0.0.1+abc"


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (cheat_choice, r"SAL, 16 areas: the stored choice \(lr .*\) is not the best of the trial log"),
        (cheat_settings, r"a result used \(lr 0\.123, "),
        (cheat_twice, "the test part was read 2 times, expected once"),
        (cheat_again, "there are 2 rows of the same case"),
        (cheat_trial, "a trial read the test part"),
        (cheat_data, "1 rows come from other data than the rest"),
        (cheat_seed, "rows of seeds 1 are missing"),
        (cheat_seed_and_plan, "seed 1 is missing, which other methods have"),
        (cheat_code, "rows come from 2 versions of the code"),
    ],
)
def test_planted_cheats_are_flagged(small_bench: Path, cheat, message: str) -> None:
    state = parts(small_bench)
    cheat(*state)
    assert any(re.search(message, problem) for problem in audit(*state)), audit(*state)


# ---- end to end ------------------------------------------------------------------------------------------------------


def test_the_report_holds_tables_figures_and_nothing_from_the_network(
    small_bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", str(small_bench)])
    page, text = (small_bench / "report.html").read_text(), (small_bench / "report.md").read_text()
    assert "The audit found nothing" in page
    assert not re.search(r'(src|href)="https?:', page)
    for name in ("SAL, 16 areas", "scikit-learn MLP", "Chosen settings", "Effective areas"):
        assert name in page
        assert name in text
    assert page.count("<figure") == text.count("![")
    assert {path.suffix for path in (small_bench / "figures").iterdir()} == {".png", ".svg", ".pdf"}
    assert str(small_bench / "report.html") in capsys.readouterr().out.replace("\n", "")


def test_rows_that_are_there_are_not_run_again(small_bench: Path) -> None:
    before = (small_bench / "rows.jsonl").read_bytes()
    (dataset,) = {row["dataset"] for row in read_journal(small_bench / "rows.jsonl")}
    run_recipes(["ten"], Plan(quick=True, sets=(dataset,)), small_bench, jobs=1, trials=2, search=True)
    assert (small_bench / "rows.jsonl").read_bytes() == before


def test_a_bench_killed_at_random_moments_has_the_rows_of_an_undisturbed_one(blobs: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "brodmann",
        "bench",
        "ten",
        "--protocols",
        "paper",
        "--sets",
        blobs,
        "--seeds",
        "2",
    ]

    def run(folder: str, seconds: float | None = None) -> int:
        process = subprocess.Popen(
            [*command, "--jobs", "2", "--out", str(tmp_path / folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)  # its workers must notice on their own
            process.wait()
        return process.returncode

    assert run("whole") == 0
    draw = random.Random(os.getpid())
    for _ in range(3):
        run("killed", 3.0 + 3.0 * draw.random())
    assert run("killed") == 0
    whole, killed = (
        {row["key"]: without_times(row) for row in read_journal(tmp_path / name / "rows.jsonl")}
        for name in ("whole", "killed")
    )
    assert len(whole) == 2 * len(PAPER_METHODS)
    assert killed == whole


def test_workers_of_a_killed_bench_go_away(blobs: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brodmann", "bench", "ten", "--sets", blobs, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(4.0)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while left := living(process.pid):
        assert time.monotonic() < deadline, f"workers outlived their parent: {left}"
        time.sleep(0.2)


def living(group: int) -> list[str]:
    """Returns the processes of a group that run; one that ended and waits to be collected does not."""
    listing = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in listing.splitlines()]
    return [line[-1] for line in lines if line[0] == str(group) and not line[1].startswith("Z")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "tne"], "Unknown recipe 'tne'. Did you mean 'ten'"),
        (["bench", "ten", "--jobs", "0"], "Expected --jobs, --trials and --seeds of at least 1"),
        (["bench", "ten", "--protocols", "papper"], "Unknown protocol 'papper'. Did you mean 'paper'"),
        (["bench", "ten", "--sets", "digit"], "Unknown data set 'digit'. Did you mean 'digits'"),
        (["report", "nowhere"], "nowhere holds no rows: expected nowhere/rows.jsonl, written by `brodmann bench`"),
    ],
)
def test_bad_commands_say_what_to_do(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_estimate_names_every_recipe(capsys: pytest.CaptureFixture[str], blobs: str) -> None:
    main(["bench", "ten", "--quick", "--sets", blobs, "--estimate"])
    out = capsys.readouterr().out
    assert re.search(r"search +\d+\.\d\d core-hours", out)
    assert re.search(r"in all +\d+\.\d\d core-hours", out)


def test_dense_methods_are_widened_to_the_active_parameters_of_sal(blobs: str) -> None:
    rows = {case.method: case.options for case in ten(Plan(quick=True, seeds=1, protocols=("tuned",), sets=(blobs,)))}
    active = Network(mlp(9, 4, areas=16)).active_parameters()
    for name in ("backpropagation, equal active", "Kolen-Pollack", "fixed random feedback", "scikit-learn MLP"):
        assert abs((9 + 1 + 4) * rows[name].width + 4 - active) <= 14
    assert rows["SAL, 16 areas"].width == 256


@pytest.mark.parametrize("name", ["depth", "scale", "convergence", "interference"])
def test_recipes_without_data_say_where_to_get_some(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BRODMANN_DATA", str(tmp_path))
    assert {case.options.dataset for case in cases_of(name, Plan(quick=True))} <= {"digits"}


def test_a_table_is_markdown_and_html_and_keeps_its_bars() -> None:
    table = Table("T", ["a", "b"], [["x|y", "<1>"]], "Note.")
    assert "| x/y | <1> |" in table.markdown()
    assert "<td>&lt;1&gt;</td>" in table.html()
