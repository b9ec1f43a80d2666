"""The commands: one for each result of the paper, and one for settings beyond it.

To add one, write a module with a function that takes a `Context` and returns a `Result`, and name it here.
Modules are imported when their command is run, so that ``--help`` and mistakes need not wait for torch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.context import Context
    from experiments.result import Result


@dataclass(frozen=True)
class Experiment:
    """One command.

    Attributes:
        place: its function, as ``module:function`` within this package.
        help: what it reproduces, in a line.
        bases: bases of the full scale where none are named.
        trains: whether it needs the tasks' data and trained runs.
    """

    place: str
    help: str
    bases: tuple[str, ...] = ("bert-base-uncased",)
    trains: bool = True

    def run(self, context: "Context") -> "Result":
        """Do the experiment."""
        module, _, name = self.place.partition(":")
        function: Callable[[Context], Result] = getattr(
            importlib.import_module(f"experiments.{module}"), name
        )
        return function(context)


_TWO_BASES = ("bert-base-uncased", "roberta-base")

EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment("parity:table1", "masking against finetuning on every task, over seeds", _TWO_BASES),
    "table2": Experiment("ensembles:table2", "error and memory of one model and of an ensemble of four"),
    "table3": Experiment("generalization:table3", "learned on one sentiment task, measured on another"),
    "table6": Experiment("ensembles:table6", "error of the ensemble under each rule of combining"),
    "table7": Experiment("blocks:table7", "which blocks are masked, in numbers"),
    "table8": Experiment("memory:table8", "parameters and memory of a number of tasks, exact", trains=False),
    "figure1": Experiment("sparsity:figure1", "the share of zeros that masks start with"),
    "figure2": Experiment("blocks:figure2", "which blocks are masked: from the top and from the bottom"),
    "figure3": Experiment("memory:figure3", "memory against the number of tasks, exact", trains=False),
    "figure4": Experiment("clusters:figure4", "dev examples in the encoder's last state at [CLS], by t-SNE"),
    "figure5": Experiment("mask_layers:figure5", "how much masks of two tasks differ, layer by layer"),
    "figure6": Experiment("connectivity:figure6", "the lines between pretrained, finetuned and masked model"),
    "figure7": Experiment("connectivity:figure7", "a learned Bezier curve from finetuned to masked model"),
    "ablation": Experiment("ablation:ablation", "settings beyond the paper's, one at a time"),
}
