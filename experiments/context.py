"""What one command was told, and where its trained runs come from.

An experiment asks here for tasks, seeds, bases and runs; what the command line leaves open it answers itself,
for the quick and the full scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.errors import ExperimentOptionsError
from experiments.runs import Method, Run, Runs, Scale
from experiments.scales import Change, scale_of
from training.learn import Preparation
from training.progress import ProgressBar


@dataclass(frozen=True, kw_only=True)
class Context:
    """Arguments of one command.

    Attributes:
        name: the experiment, such as ``table1``.
        quick: the scale for two cores, in place of the paper's.
        bases: pretrained encoders, hub ids or folders; at least one.
        data: folder of the tasks' data; None for the hub.
        tasks: tasks asked for; None for the experiment's own.
        seeds: seeds asked for; None for the experiment's own.
        runs_dir: folder of finished runs, shared by all experiments.
        changes: what is changed of the scale.
        say: called with a line of text for what a user should know on the way.
    """

    name: str
    quick: bool
    bases: tuple[str, ...]
    data: Path | None
    tasks: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    runs_dir: Path
    changes: tuple[Change, ...]
    say: Callable[[str], None]
    _runs: dict[tuple[str, str], Runs] = field(default_factory=dict, repr=False, compare=False)

    @property
    def base(self) -> str:
        """The one base of an experiment that looks at one.

        Raises:
            ExperimentOptionsError: several were given.
        """
        if len(self.bases) > 1:
            raise ExperimentOptionsError(f"{self.name} looks at one base: give --base one name")
        return self.bases[0]

    def choose_tasks(self, *, quick: Sequence[str], full: Sequence[str]) -> tuple[str, ...]:
        """Tasks asked for, or else those of the scale."""
        return self.tasks or tuple(quick if self.quick else full)

    def choose_seeds(self, *, quick: Sequence[int], full: Sequence[int]) -> tuple[int, ...]:
        """Seeds asked for, or else those of the scale."""
        return self.seeds or tuple(quick if self.quick else full)

    def scale(self, task: str) -> Scale:
        """The scale at which a task is learned."""
        return scale_of(self.quick, self.changes, task)

    def setting(self, task: str, *, base: str | None = None) -> Preparation:
        """A task's data, encoded, with the base.

        Args:
            task: its name.
            base: None for the one base.

        Raises:
            TrainingError, MaskingError: data or base can't be used.
        """
        return self._runs_of(task, base).setting(task)

    def run(
        self, task: str, method: Method, *, seed: int = 0, base: str | None = None, **changes: Any
    ) -> Run:
        """A trained run, learned now if it isn't there yet.

        Args:
            task: its name.
            method: how to learn it.
            seed: seed of the run.
            base: None for the one base.
            changes: fields of `LearnOptions` that differ from the scale's.

        Raises:
            TrainingError, MaskingError: see `training.learn.learn`.
        """
        return self._runs_of(task, base).get(task, method, seed=seed, **changes)

    def _runs_of(self, task: str, base: str | None) -> Runs:
        name = base or self.base
        if (name, task) not in self._runs:
            self._runs[name, task] = Runs(
                self.runs_dir,
                name,
                self.scale(task),
                data=self.data,
                callbacks=lambda: [ProgressBar()],
                say=self.say,
            )
        return self._runs[name, task]
