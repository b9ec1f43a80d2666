import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mask_store import MaskStore
from tests.support.callbacks import Killed, KillInEpoch
from tests.support.learning_data import command_line, tiny_options, write_lines
from tests.training.runs.test_results import result
from training.errors import OptionsError, SearchError
from training.options import Method
from training.runs.learn import learn
from training.runs.preparation import Preparation, prepare
from training.runs.rate_search import Found, Grid, Trial, chance_level, search
from training.runs.results import Result, Results
from training.runs.runner import Runner, is_hopeless
from training.search import main


@dataclass(frozen=True)
class MadeUp(Runner):
    """Makes up what runs come to, as a function of the rate."""

    value: Callable[[float], float | None] = lambda lr: 1.0
    tried: list[float] = field(default_factory=list)
    rivals: list[float | None] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def run(self, ready: Preparation, method: Method, rival: Result | None = None) -> Result:
        lr = ready.options.lr
        self.tried.append(lr)
        self.rivals.append(rival.lr if rival else None)
        self.seeds.append(ready.options.seed)
        value = self.value(lr)
        made = result(
            lr, *([] if value is None else [value]), end="diverged" if value is None else "finished"
        )
        self.results.add(ready.identity_for(method), made)
        return made


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, tiny_bert: str) -> Preparation:
    return prepare(tiny_options(tmp_path_factory.mktemp("data"), tiny_bert))


def _made_up(value: Callable[[float], float | None]) -> MadeUp:
    return MadeUp(Results(), Path("none"), value=value)


def _peak(best: float) -> Callable[[float], float]:
    """Above what the majority vote would have, whatever the rate."""
    return lambda lr: 1.0 + min(lr / best, best / lr)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (1e-3, [1e-3, 5e-4, 2e-3]),
        (4e-3, [1e-3, 5e-4, 2e-3, 4e-3, 8e-3]),
        (1.25e-4, [1e-3, 5e-4, 2e-3, 2.5e-4, 1.25e-4, 6.25e-5]),
    ],
)
def test_the_grid_grows_until_the_best_rate_is_not_on_its_border(
    ready: Preparation, best: float, tried: list[float]
) -> None:
    runner = _made_up(_peak(best))
    grid = Grid.around(1e-3)
    found = search(ready, "mask", grid, runner)
    assert runner.tried == tried
    assert found.best.lr == best
    assert grid.beyond(found) == []


def test_a_grid_of_one_rate_grows_both_ways(ready: Preparation) -> None:
    runner = _made_up(_peak(1e-3))
    assert search(ready, "mask", Grid((1e-3,), factor=10), runner).best.lr == 1e-3
    assert runner.tried == [1e-3, 1e-4, 1e-2]


def test_runs_are_limited_and_the_border_is_told(ready: Preparation) -> None:
    runner = _made_up(_peak(1.0))
    grid = Grid.around(1e-3, max_runs=5)
    found = search(ready, "mask", grid, runner)
    assert len(runner.tried) == 5
    assert grid.beyond(found) == [1.6e-2]


def test_rates_that_were_asked_for_are_tried_however_many_are_known(ready: Preparation) -> None:
    runner = _made_up(_peak(1e-3))
    search(ready, "mask", Grid.around(1e-3, max_runs=5), runner)
    runner.tried.clear()
    found = search(ready, "mask", Grid((0.25, 0.5), max_runs=2), runner)
    assert runner.tried == [0.5, 0.25]
    assert found.best.lr == 1e-3


def test_each_run_is_held_against_the_best_before_it(ready: Preparation) -> None:
    runner = _made_up(_peak(4e-3))
    search(ready, "mask", Grid.around(1e-3), runner)
    assert runner.rivals == [None, 1e-3, 1e-3, 2e-3, 4e-3]


def test_a_run_that_diverged_counts_as_worst(ready: Preparation) -> None:
    runner = _made_up(lambda lr: None if lr > 1e-3 else -0.5)
    assert search(ready, "mask", Grid.around(2e-3), runner).best.lr < 2e-3
    assert runner.tried[:3] == [2e-3, 1e-3, 4e-3]


def test_where_everything_diverges_lower_rates_are_tried_and_then_it_fails(ready: Preparation) -> None:
    runner = _made_up(lambda lr: None)
    with pytest.raises(SearchError, match=r"every rate from 0\.000125 to 0\.002 diverged"):
        search(ready, "mask", Grid.around(1e-3, max_runs=5), runner)


def _found(*values: float) -> Found:
    return Found(tuple(Trial(lr, (result(lr, value),)) for lr, value in enumerate(values, start=1)))


def test_of_equal_runs_the_middle_one_is_best() -> None:
    assert _found(0.5, 0.5, 0.5).best.lr == 2.0
    assert _found(0.5, 0.5, 0.4).best.lr == 2.0


def test_a_killed_search_goes_on_and_repeats_nothing(ready: Preparation) -> None:
    def kill(lr: float) -> float:
        if lr == 2e-3:
            raise Killed
        return _peak(4e-3)(lr)

    results = Results()
    with pytest.raises(Killed):
        search(ready, "mask", Grid.around(1e-3), MadeUp(results, Path("none"), value=kill))
    runner = MadeUp(results, Path("none"), value=_peak(4e-3))
    assert search(ready, "mask", Grid.around(1e-3), runner).best.lr == 4e-3
    assert runner.tried == [2e-3, 4e-3, 8e-3]
    again = MadeUp(results, Path("none"), value=_peak(4e-3))
    assert search(ready, "mask", Grid.around(1e-3), again).best.lr == 4e-3
    assert again.tried == []


def test_runs_of_other_settings_do_not_count(ready: Preparation) -> None:
    results = Results()
    search(ready, "finetune", Grid.around(1e-3), MadeUp(results, Path("none")))
    search(ready.varied(seed=1), "mask", Grid.around(1e-3), MadeUp(results, Path("none")))
    runner = MadeUp(results, Path("none"))
    search(ready, "mask", Grid.around(1e-3), runner)
    assert len(runner.tried) == 3


def test_the_papers_grid_has_the_same_digits_in_every_decade(ready: Preparation) -> None:
    runner = _made_up(_peak(9e-4))
    found = search(ready, "mask", Grid.paper(), runner)
    assert runner.tried[:5] == [5e-5, 7e-5, 3e-5, 9e-5, 1e-5]
    assert runner.tried[5:] == [1e-4, 3e-4, 5e-4, 7e-4, 9e-4, 1e-3]
    assert found.best.lr == 9e-4
    runner = _made_up(_peak(7e-6))
    assert search(ready, "finetune", Grid.paper(), runner).best.lr == 7e-6
    assert runner.tried[5:] == [9e-6, 7e-6, 5e-6]


def test_on_the_papers_grid_no_rate_is_left_out_for_one_that_is_known(ready: Preparation) -> None:
    runner = _made_up(_peak(3e-4))
    search(ready, "mask", Grid((4e-5, 1e-3, 9e-3)), runner)
    found = search(ready, "mask", Grid.paper(), runner)
    assert [trial.lr for trial in found.trials] == [*Grid.paper().rates, 1e-4, 3e-4, 5e-4]
    with pytest.raises(OptionsError, match="1, 3, 5, 7 and 9 times powers of ten"):
        Grid((1e-5, 2e-5), None)


def test_where_nothing_is_learned_the_search_goes_on_both_ways(ready: Preparation) -> None:
    majority, least = ready.baseline.value, _least(ready)
    runner = _made_up(lambda lr: 2.0 if lr == 3e-4 else least if lr == 7e-5 else majority)
    assert search(ready, "mask", Grid.paper(), runner).best.lr == 3e-4
    assert runner.tried[5:] == [9e-6, 1e-4, 7e-6, 3e-4, 5e-4]
    assert len(search(ready, "mask", Grid.paper(9), _made_up(lambda lr: majority)).trials) == 9


def _least(ready: Preparation) -> float:
    return chance_level(ready.baseline.value, len(ready.encoded.dev))


def test_chance_reaches_one_standard_error_above_the_majority_vote(ready: Preparation) -> None:
    assert chance_level(0.8, 400) == pytest.approx(0.82)
    assert chance_level(0.0, 400) == pytest.approx(0.05)  # a correlation
    assert ready.baseline.value < _least(ready) < 1


def test_of_several_seeds_the_mean_counts(ready: Preparation) -> None:
    values = {0: {1e-3: 0.9, 2e-3: 0.7, 5e-4: 0.6}, 1: {1e-3: 0.5, 2e-3: 0.8, 5e-4: 0.6}}
    runner = _made_up(lambda lr: values[runner.seeds[-1]].get(lr, 0.51))
    found = search(ready, "mask", Grid.around(1e-3), runner, seeds=(0, 1))
    assert runner.tried == [1e-3, 1e-3, 5e-4, 5e-4, 2e-3, 2e-3, 4e-3, 4e-3]
    assert runner.seeds == [0, 1] * 4
    assert runner.rivals == [None, None, *[1e-3] * 4, 2e-3, 2e-3]
    assert found.best.lr == 2e-3
    assert found.best.value == pytest.approx(0.75)
    again = MadeUp(runner.results, Path("none"), value=lambda lr: 0.0)
    assert search(ready, "mask", Grid.around(1e-3), again, seeds=(0, 1)).best.lr == 2e-3
    assert again.tried == []
    search(ready, "mask", Grid.around(1e-3), again, seeds=(0, 1, 2))
    assert set(again.seeds) == {0, 1, 2}  # the made-up runner repeats what a real one looks up


def test_a_grid_that_makes_no_sense_is_refused_with_every_mistake() -> None:
    with pytest.raises(OptionsError) as raised:
        Grid((-1.0, 1.0), factor=1.0000001, max_runs=1)
    assert [problem.split()[0] for problem in raised.value.problems] == ["--grid", "--factor", "--max-runs"]


@pytest.mark.parametrize(("examples", "code"), [(40, 1), (6, 0)])
def test_a_rate_that_learned_nothing_is_not_recommended(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str], examples: int, code: int
) -> None:
    dev = str(
        write_lines(tmp_path / "dev.jsonl", [{"text": "the film", "label": n % 2} for n in range(examples)])
    )
    train = str(
        write_lines(tmp_path / "train.jsonl", [{"text": "a movie", "label": n % 2} for n in range(8)])
    )
    line = ["--task", "demo", "--kind", "sequence-classification", "--base", tiny_bert, "--epochs", "1"]
    line += ["--train", train, "--dev", dev, "--run-dir", str(tmp_path / "run"), "--max-length", "32"]
    assert main([*line, "--grid", "0.001", "--max-runs", "1"]) == code
    out, err = capsys.readouterr()
    assert "no rate may have learned anything: the best has dev accuracy 0.5000" in err
    assert bool(out) == (code == 0)


@pytest.mark.parametrize(
    ("values", "hopeless"),
    [
        ([0.1], False),
        ([0.1, 0.79], True),
        ([0.1, 0.81], False),
        ([0.85, 0.1], False),
        ([0.1, 0.1, 0.1], True),
    ],
)
def test_a_run_is_hopeless_ten_points_behind_from_the_second_epoch_on(
    values: list[float], hopeless: bool
) -> None:
    assert is_hopeless(values, [0.5, 0.9]) == hopeless
    assert not is_hopeless(values, [])


def test_a_run_comes_to_what_learning_alone_comes_to(
    tmp_path: Path, tiny_bert: str, log: pytest.LogCaptureFixture
) -> None:
    options = tiny_options(tmp_path, tiny_bert)
    ready = prepare(options)
    path = tmp_path / "results.jsonl"
    with pytest.raises(Killed):
        Runner(Results(path), tmp_path / "runs", [KillInEpoch(2)]).run(ready, "mask")
    made = Runner(Results(path), tmp_path / "runs").run(ready, "mask")
    report = learn(options)
    assert any("resuming after step 6 (epoch 1 of 3)" in line for line in log.messages)
    assert made.values == tuple(record.metrics["accuracy"] for record in report.epochs)
    manifest = MaskStore.open(str(options.store)).load("demo").manifest
    assert (made.value, made.best_epoch) == (report.value, report.best_epoch)
    assert made.nbytes == manifest.mask_bytes + manifest.head_bytes
    assert Results(path).get(ready.identity_for("mask")) == made
    assert not list((tmp_path / "runs").rglob("checkpoint-*"))


def test_a_hopeless_run_is_stopped_and_a_diverging_one_recorded(tmp_path: Path, tiny_bert: str) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    runner = Runner(Results(), tmp_path / "runs")
    stopped = runner.run(ready.varied(lr=1e-9), "finetune", result(0.1, 1.0, 1.0, 1.0))
    assert (stopped.end, len(stopped.values)) == ("stopped", 2)
    assert runner.run(ready.varied(lr=1e-9), "finetune", result(0.1, 1.0)) is stopped
    short = ready.varied(lr=1e-8, epochs=2)
    assert runner.run(short, "finetune", result(0.1, 1.0, 1.0)).end == "finished"  # though hopeless
    whole = runner.run(ready.varied(lr=1e-9), "finetune")
    assert (whole.end, len(whole.values)) == ("finished", 3)
    assert runner.run(ready.varied(lr=1e-9), "finetune") is whole
    diverged = runner.run(ready.varied(lr=1e30), "finetune")
    assert (diverged.end, diverged.values, diverged.nbytes) == ("diverged", (), 0)


def test_a_run_goes_on_until_its_masks_have_their_final_share_of_zeros(
    tmp_path: Path, tiny_bert: str
) -> None:
    options = tiny_options(tmp_path, tiny_bert, epochs=6, patience=6, lr=1e-9, final_sparsity=0.3)
    made = Runner(Results(), tmp_path / "runs").run(prepare(options), "mask", result(0.1, 2.0))
    assert (made.end, made.best_epoch, len(made.values)) == ("stopped", 3, 3)
    assert made.value == made.values[2]


def test_the_command_prints_an_option_and_publishes_nothing(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command_line(tmp_path, tiny_bert, store=""), "--max-runs", "2"]
    assert main([*arguments, "--grid", "0.002", "0.004"]) == 0
    printed = capsys.readouterr()
    assert printed.out in {"--lr 0.002\n", "--lr 0.004\n"}
    assert "2 of at most 2 rates" in printed.err
    assert not (tmp_path / "store").exists()
    lines = (tmp_path / "run-search.jsonl").read_text().splitlines()
    assert len(lines) == 2

    assert main([*arguments, "--grid", "0.004", "0.002", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"--lr {found['lr']}\n" == printed.out
    assert [run["lr"] for run in found["runs"]] == [0.002, 0.004]
    assert (tmp_path / "run-search.jsonl").read_text().splitlines() == lines


def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path, tiny_bert: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*command_line(tmp_path, tiny_bert), "--grid", "0.1"]
    assert main([*arguments, "--lr", "0.1"]) == 2
    assert "give one" in capsys.readouterr().err
    assert main([*arguments, "--results", str(tmp_path / "train.jsonl")]) == 2
    assert "is not a result of a run" in capsys.readouterr().err
