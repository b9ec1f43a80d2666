"""Facts: the numbers that the paper prints (Zhao et al., EMNLP 2020), by this project's names.

They are in ``numbers.json`` (Table 4 in `training.paper`): Tables 1 to 8 and what the text says of settings.
Tasks have the names of `experiments.common.tasks`, bases those of the hub. What the paper does not print is
not here, and a table shows `NOT_PRINTED` in its place. As in the paper, Table 7 is in fractions, all other
scores and errors are in percent, and memory is in decimal kilo- and megabytes.
"""

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.paper import RATES

Method = Literal["masking", "finetuning"]
Size = Literal["single", "ensemble"]
Unit = Literal["parameters", "kilobytes"]
Direction = Literal["top-down", "bottom-up"]
Scores = Mapping[Method, Mapping[str, float]]
"""By method and task."""
Errors = Mapping[Method, Mapping[Size, Mapping[str, float]]]
"""Test errors in percent by method, size and task."""
Gains = Mapping[Method, Mapping[str, Mapping[str, float]]]
"""Points above the majority vote by method, task learned from and task measured on."""

NOT_PRINTED = "-"
BERT = "bert-base-uncased"
"""The base of most of the paper's tables, and of all that it says of memory."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Part):
    """Mean and standard deviation over the seeds; the paper does not say whether by n or n - 1."""

    mean: float
    std: float


Cells = Mapping[Method, Mapping[str, Cell]]
"""By method and task."""


class Setup(_Part):
    """Settings of all experiments (sections 4 and 5.3, appendix A).

    Attributes:
        tasks: In the order of Tables 1 and 8.
        blocks: Blocks of each base.
        masked_blocks: First and last masked block of each base.
        initial_sparsity: Share of zeros that masks start with.
        max_length: Wordpieces of an input, with special tokens.
        epochs: Most epochs.
        patience: Epochs without gain on dev after which learning stops.
        batch_size: Of all tasks but those of `batch_size_of`.
        batch_size_of: By task.
        seeds: The four seeds.
        rates: Learning rates that a search starts with.
    """

    tasks: tuple[str, ...]
    blocks: Mapping[str, int]
    masked_blocks: Mapping[str, tuple[int, int]]
    initial_sparsity: float
    max_length: int
    epochs: int
    patience: int
    batch_size: int
    batch_size_of: Mapping[str, int]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]


class Table1(_Part):
    """Masking against finetuning (section 5.3): dev metric in percent, by base.

    Attributes:
        train_rows: By task, rounded to hundreds or thousands; sentences for POS and NER.
        scores: By base, method and task.
    """

    train_rows: Mapping[str, int]
    scores: Mapping[str, Cells]


class Table2(_Part):
    """Test error and memory of BERT (section 5.3).

    Attributes:
        errors: By base, which is BERT.
        megabytes: By method and size.
        references: Errors of two systems of the literature by task.
    """

    errors: Mapping[str, Errors]
    megabytes: Mapping[Method, Mapping[Size, int]]
    references: Mapping[str, Mapping[str, float]]


class Table3(_Part):
    """Generalisation (section 6.2): BERT, learned from one sentiment task and measured on others' dev sets.

    Attributes:
        majority: Accuracy of the majority vote in percent by task measured on; IMDB is there too.
        gains: Points above it.
        imdb: Accuracy in percent on IMDB of what was learned from SST2, by method.
    """

    majority: Mapping[str, float]
    gains: Gains
    imdb: Mapping[Method, float]


class Table4(_Part):
    """Learning rates that were best on dev (appendix A.4), by base, method and task.

    They are in `training.paper`, since ``--preset paper`` takes them.
    """

    rates: Mapping[str, Scores] = {
        base: {"masking": rows["mask"], "finetuning": rows["finetune"]} for base, rows in RATES.items()
    }


class Table5(_Part):
    """Examples of dev and test, for POS and NER words that are measured (appendix A.5).

    Attributes:
        counts: By task and split (``dev``, ``test``).
        wordpieces: Of a sentence of POS and NER that are kept; a word whose last one lies beyond is excluded.
    """

    counts: Mapping[str, Mapping[str, int]]
    wordpieces: int


class Table6(_Part):
    """Table 2's errors for RoBERTa and DistilBERT (appendix C), by base."""

    errors: Mapping[str, Errors]


class Table7Row(_Part):
    """Masking some blocks of BERT (appendix D.1, figure 2); pooler and classifier are masked too.

    Attributes:
        blocks: First and last masked block.
        directions: Series of figure 2 that it belongs to; all blocks belong to both.
        initial_sparsity: Share of zeros that masks start with.
        scores: By task; fractions.
    """

    blocks: tuple[int, int]
    directions: tuple[Direction, ...]
    initial_sparsity: float
    scores: Mapping[str, Cell]


class Table7(_Part):
    """Which blocks are masked (appendix D.1, figure 2): BERT, dev metric as a fraction.

    Attributes:
        finetuning: By task.
        masking: A row for each choice of blocks and initial sparsity.
    """

    finetuning: Mapping[str, Cell]
    masking: tuple[Table7Row, ...]


class Addends(_Part):
    """What one task adds in one unit; 0 where it adds nothing of a kind.

    Attributes:
        classifier: The classifier's weights, without bias.
        copy_of_base: One more copy of the pretrained model.
        mask: Mask bits of blocks and pooler; as parameters each counts one, in memory 1/8 byte.
        classifier_mask: Mask bits of the classifier.
    """

    classifier: float = 0
    copy_of_base: float = 0
    mask: float = 0
    classifier_mask: float = 0

    @property
    def total(self) -> float:
        """Their sum."""
        return self.classifier + self.copy_of_base + self.mask + self.classifier_mask


class Table8(_Part):
    """Parameters and memory for a growing number of tasks (appendices A.2 and D.2, figure 3).

    Attributes:
        pretrained: The pretrained model, by unit.
        added: By task, in the order in which tasks are added, method and unit.
    """

    pretrained: Mapping[Unit, float]
    added: Mapping[str, Mapping[Method, Mapping[Unit, Addends]]]

    def totals(self, method: Method, unit: Unit) -> list[float]:
        """Return what one task, two tasks and so on take together; kilobytes to the byte's thousandth."""
        added = [found[method][unit].total for found in self.added.values()]
        sums = list(accumulate(added, initial=self.pretrained[unit]))[1:]
        return [round(total, 3) for total in sums]


class Figure1(_Part):
    """Initial sparsity (section 5.1).

    Attributes:
        initial_sparsities: Shares of zeros that masks start with.
        rate: The one learning rate.
        batch_size: By task.
        good: First and last share that the paper calls reasonable.
    """

    initial_sparsities: tuple[float, ...]
    rate: float
    batch_size: Mapping[str, int]
    good: tuple[float, float]


class Figure7(_Part):
    """Learned curve (appendix B).

    Attributes:
        trainable_models: Models between the fixed ends.
    """

    trainable_models: int


class Facts(_Part):
    """Everything that ``numbers.json`` holds."""

    paper: str
    setup: Setup
    table1: Table1
    table2: Table2
    table3: Table3
    table4: Table4 = Table4()
    table5: Table5
    table6: Table6
    table7: Table7
    table8: Table8
    figure1: Figure1
    figure7: Figure7


FACTS = Facts.model_validate_json((Path(__file__).parent / "numbers.json").read_text(encoding="utf-8"))


def paper_base(base: str) -> str | None:
    """Return the paper's base that a hub id or folder names (``FacebookAI/roberta-base``); else None."""
    name = Path(base).name
    return name if name in FACTS.setup.blocks else None
