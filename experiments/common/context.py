"""Context of one command: its arguments, and where its trained runs come from.

An experiment asks here for tasks, seeds, bases and runs; what the command line leaves open it answers itself,
for the quick and the full scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.common.runs import SEARCH_SEED, SET, Measured, Run, Runs, Scale
from experiments.common.scales import Change, departures, describe, scale_of
from experiments.common.sizes import counted, other_rows
from experiments.common.tasks import TaskFiles
from experiments.errors import ExperimentOptionsError
from experiments.published.facts import FACTS, Method
from training.cli.progress import ProgressBar
from training.runs.preparation import Preparation
from training.runs.rate_search import Found
from training.runs.runner import HeldOutRows

_HELD_TASKS = 4  # whose data and base are in memory at once


@dataclass(frozen=True, kw_only=True)
class Context:
    """Arguments of one command.

    Attributes:
        name: The experiment, such as ``table1``.
        quick: The scale for two cores, instead of the paper's.
        bases: Pretrained encoders, hub ids or folders; at least one.
        data: Folder of the tasks' data; None for the hub.
        tasks: Tasks asked for; None for the experiment's own.
        seeds: Seeds asked for; None for the experiment's own.
        runs_dir: Folder of finished runs, shared by all experiments.
        results_dir: Folder of results.
        changes: What is changed of the scale.
    """

    name: str
    quick: bool
    bases: tuple[str, ...]
    data: Path | None
    tasks: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    runs_dir: Path
    results_dir: Path
    changes: tuple[Change, ...]
    _used: set[str] = field(default_factory=set, repr=False, compare=False)
    _rates: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _held: dict[tuple[str, str], Runs] = field(default_factory=dict, repr=False, compare=False)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def scale(self) -> str:
        """``quick``, ``full`` (the paper's rows, settings and seeds, as far as is known) or ``reduced``."""
        if self.quick:
            return "quick"
        return "reduced" if self.departures else "full"

    @property
    def departures(self) -> tuple[str, ...]:
        """How rows, settings and seeds differ from the paper's; of the tasks that were asked for so far."""
        seeds = self.seeds or FACTS.setup.seeds
        others = sorted(set(seeds) ^ set(FACTS.setup.seeds))
        found = [other_rows(task, *sizes) for task, sizes in self._sizes.items()]
        return (
            *departures(self.changes),
            *([f"seeds {', '.join(map(str, seeds))}"] if others else []),
            *(rows for rows in found if rows),
        )

    @property
    def base(self) -> str:
        """The one base of an experiment that looks at one.

        Raises:
            ExperimentOptionsError: Several were given.
        """
        if len(self.bases) > 1:
            raise ExperimentOptionsError(f"{self.name} looks at one base: give --base one name")
        return self.bases[0]

    def choose_tasks(self, *, quick: Sequence[str], full: Sequence[str]) -> tuple[str, ...]:
        """Return the tasks asked for, or else those of the scale.

        Raises:
            DataError: The rows of one are missing, which is found before hours of learning.
        """
        tasks = self.tasks or tuple(quick if self.quick else full)
        for task in tasks:
            self.files(task)
        return tasks

    def files(self, task: str) -> TaskFiles:
        """Return the files of a task's rows; see `experiments.common.tasks.task_files`.

        Raises:
            DataError: They are not there.
        """
        return self._runs_of(task, self.bases[0]).files(task)

    def test(self, task: str, *, base: str | None = None) -> HeldOutRows | None:
        """Return a task's test rows, encoded for the base; None where it has none.

        Raises:
            DataError: They can't be used.
        """
        self.setting(task, base=base)
        return self._runs_of(task, base or self.base).test(task)

    def choose_seeds(self, *, quick: Sequence[int], full: Sequence[int]) -> tuple[int, ...]:
        """Return the seeds asked for, or else those of the scale."""
        return self.seeds or tuple(quick if self.quick else full)

    def scale_of(self, task: str | None) -> Scale:
        """Return the scale at which a task is learned; None for a task that has none of its own."""
        return scale_of(self.quick, self.changes, task)

    def setting(self, task: str, *, base: str | None = None) -> Preparation:
        """Return a task's data, encoded, with the base.

        Args:
            task: Its name.
            base: None for the one base.

        Raises:
            TrainingError, MaskingError: Data or base can't be used.
        """
        setting = self._runs_of(task, base or self.base).setting(task)
        self._sizes[task] = len(setting.encoded.train), counted(setting.encoded.dev)
        return setting

    def run(
        self,
        task: str,
        method: Method,
        *,
        seed: int = SEARCH_SEED,
        base: str | None = None,
        weights: bool = True,
        **changes: Any,
    ) -> Run:
        """Return a trained run, learned now if it isn't there yet.

        Args:
            task: Its name.
            method: How to learn it.
            seed: Seed of the run.
            base: None for the one base.
            weights: Whether what was learned is wanted too, see `Runs.get`.
            changes: Fields of `LearnOptions` that differ from the scale's.

        Raises:
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        self.setting(task, base=base)
        if "lr" not in changes:
            changes["lr"] = self.rate(task, method, base=base)
        runs = self._runs_of(task, base or self.base)
        return runs.get(task, method, seed=seed, weights=weights, **changes)

    def measure(self, task: str, method: Method, *, seed: int, base: str) -> Measured:
        """Return a trained run with its metrics on the task's test rows; see `Runs.measure`.

        Raises:
            TrainingError, MaskingError: See `training.runs.learn.learn`.
        """
        rate = self.rate(task, method, base=base)
        return self._runs_of(task, base).measure(task, method, seed=seed, lr=rate)

    def rate(self, task: str, method: Method, *, base: str | None = None) -> float:
        """Return the learning rate of a task where no other is asked for; see `Runs.rate`."""
        base = base or self.base
        rate, origin = self._runs_of(task, base).rate(task, method)
        if origin != SET:
            self._rates[f"{Path(base).name}, {task}, {method}"] = f"{rate:g} ({origin})"
        return rate

    def search(
        self, task: str, method: Method, seeds: Sequence[int], *, base: str | None = None, **changes: Any
    ) -> Found:
        """Search a learning rate on the paper's grid by the mean over seeds; see `Runs.search`."""
        return self._runs_of(task, base or self.base).search(task, method, seeds, **changes)

    @property
    def rates(self) -> Mapping[str, str]:
        """Rates that were Table 4's or searched so far, by base, task and method, with their origin."""
        return self._rates

    def learning(self) -> dict[str, dict[str, Any]]:
        """Return the settings of learning for a report: of all tasks, and of those with their own scale."""
        common = self.scale_of(None)
        own = {task: self.scale_of(task) for task in sorted(self._used)}
        special = {task: describe(scale) for task, scale in own.items() if scale != common}
        return {"all tasks": describe(common)} | special

    def _runs_of(self, task: str, base: str) -> Runs:
        """Return a task's runs; those used last are kept, since they hold the base and the task's data."""
        self._used.add(task)
        runs = self._held.pop((base, task), None) or Runs(
            self.runs_dir,
            base,
            self.scale_of(task),
            data=self.data,
            callbacks=lambda: [ProgressBar()],
        )
        self._held[base, task] = runs
        if len(self._held) > _HELD_TASKS:
            del self._held[next(iter(self._held))]
        return runs
