"""Registry of commands: one for each result of the paper, for settings beyond it, and for its claims.

To add one, write a module with a function that takes a `Context` and returns a `Result`, and name it here.
Modules are imported when their command is run, so that ``--help`` and mistakes need not wait for torch.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.common.context import Context
    from experiments.common.report import Result


@dataclass(frozen=True)
class Experiment:
    """One command.

    Attributes:
        module: Its module in `experiments`; the function is called like the command, with _ for -.
        help: What it reproduces, in a line.
        bases: Bases of the full scale where none are named.
        trains: Whether it needs the tasks' data and trained runs.
        settings: What it changes of the scale, as ``--set`` takes it.
    """

    module: str
    help: str
    bases: tuple[str, ...] = ("bert-base-uncased",)
    trains: bool = True
    settings: tuple[str, ...] = ()

    def run(self, name: str, context: "Context") -> "Result":
        """Do the experiment that the command `name` stands for."""
        module = importlib.import_module(f"experiments.{self.module}")
        function: Callable[[Context], Result] = getattr(module, name.replace("-", "_"))
        return function(context)


_BASES = ("bert-base-uncased", "roberta-base", "distilbert-base-uncased")
# What did best here: a trained head, averaged scores, all blocks of taggers; for CoLA the paper's method.
_TUNED = (
    *("head=trained", "head_lr=0.001", "average=0.98"),
    *("cola.head=masked", "cola.head_lr=null", "cola.average=null"),
    *("ner.blocks=0-", "pos.blocks=0-"),
)

EXPERIMENTS: dict[str, Experiment] = {
    "table1": Experiment(
        "paper.table1_parity", "masking against finetuning on every task, over seeds", _BASES
    ),
    "table1-tuned": Experiment(
        "paper.table1_parity",
        "the same with the settings that did best here, which are not the paper's",
        _BASES,
        settings=_TUNED,
    ),
    "table2": Experiment(
        "paper.table2_6_ensembles", "error and memory of one model and of an ensemble of four"
    ),
    "table3": Experiment("paper.table3_transfer", "learned on one sentiment task, measured on another"),
    "table4": Experiment("paper.table4_rates", "the learning rate of every task, searched", _BASES),
    "table5": Experiment("paper.table5_sizes", "sizes of dev and test, exact"),
    "table6": Experiment(
        "paper.table2_6_ensembles", "table 2's errors for RoBERTa and DistilBERT", _BASES[1:]
    ),
    "table7": Experiment("paper.figure2_table7_blocks", "which blocks are masked, in numbers"),
    "table8": Experiment(
        "paper.table8_figure3_memory", "parameters and memory of a number of tasks, exact", trains=False
    ),
    "figure1": Experiment("paper.figure1_sparsity", "the share of zeros that masks start with"),
    "figure2": Experiment(
        "paper.figure2_table7_blocks", "which blocks are masked: from the top and from the bottom"
    ),
    "figure3": Experiment(
        "paper.table8_figure3_memory", "memory against the number of tasks, exact", trains=False
    ),
    "figure4": Experiment(
        "paper.figure4_clusters", "dev examples in the topmost block's state at [CLS], by t-SNE", _BASES[:2]
    ),
    "figure5": Experiment(
        "paper.figure5_dissimilarity", "how much masks of two tasks differ, layer by layer"
    ),
    "figure6": Experiment(
        "paper.figure6_7_paths", "the lines between pretrained, finetuned and masked model", _BASES[:2]
    ),
    "figure7": Experiment("paper.figure6_7_paths", "a learned Bezier curve from finetuned to masked model"),
    "ablation": Experiment("beyond.ablation", "settings beyond the paper's, one at a time"),
    "better-masks": Experiment(
        "beyond.better_masks", "what masks might learn beside their bits, one at a time, on held-out rows"
    ),
    "copies": Experiment(
        "beyond.copies", "finetuned copies as signs and as masks: what they lose, take and cost"
    ),
    "structure": Experiment(
        "beyond.structure", "masks that drop whole heads and neurons: what they lose and how fast they are"
    ),
    "claims": Experiment(
        "paper.claims", "a page of every claim: rule, paper, ours, agrees or not", (), trains=False
    ),
}
