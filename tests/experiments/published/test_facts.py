import pytest

from experiments.common.tasks import TASKS
from experiments.published.facts import FACTS, paper_base
from masking.learning.settings import MaskSettings
from training.options import PRESETS
from training.paper import BATCH_SIZES
from training.runs.rate_search import Grid

BASES = {"bert-base-uncased", "roberta-base", "distilbert-base-uncased"}


def test_tasks_and_bases_have_this_project_s_names() -> None:
    tasks = set(FACTS.setup.tasks)
    assert tasks == set(TASKS) - {"codah"}
    assert set(FACTS.setup.blocks) == set(FACTS.table1.scores) == set(FACTS.table4.rates) == BASES
    assert set(FACTS.table5.counts) == set(FACTS.table8.added) == set(FACTS.table1.train_rows) == tasks
    for by_method in (*FACTS.table1.scores.values(), *FACTS.table4.rates.values()):
        assert set(by_method) == {"masking", "finetuning"}
        assert all(set(row) == tasks for row in by_method.values())


def test_cells_are_where_the_paper_has_them() -> None:
    roberta = FACTS.table1.scores["roberta-base"]["finetuning"]["rte"]
    assert (roberta.mean, roberta.std) == (78.2, 1.1)
    assert FACTS.table2.errors["bert-base-uncased"]["masking"]["ensemble"]["ner"] == 9.19
    assert FACTS.table3.gains["finetuning"]["sst2"]["sem"] == -10.1
    assert FACTS.table4.rates["roberta-base"]["finetuning"]["rte"] == 7e-6
    assert FACTS.table6.errors["distilbert-base-uncased"]["finetuning"]["single"]["agnews"] == 5.42
    row = FACTS.table7.masking[2]
    assert (row.blocks, row.initial_sparsity, row.scores["mrpc"].mean) == ((2, 11), 0.05, 0.868)
    assert len(FACTS.table7.masking) == 18


def test_the_preset_paper_is_the_paper_s_setting() -> None:
    setup, preset = FACTS.setup, PRESETS["paper"]
    for name in ("initial_sparsity", "max_length", "epochs", "patience", "batch_size"):
        assert preset[name] == getattr(setup, name), name
    assert setup.batch_size_of == BATCH_SIZES
    assert setup.rates == Grid.paper().rates
    assert {first for first, _ in setup.masked_blocks.values()} == {2}
    assert preset["blocks"] == "2-"
    assert MaskSettings.model_fields["initial_sparsity"].default == setup.initial_sparsity


def test_totals_of_eleven_tasks() -> None:
    counted = FACTS.table8
    assert counted.totals("finetuning", "parameters")[0] == 109_483_776
    assert counted.totals("finetuning", "parameters")[-1] == 1_204_366_848
    assert counted.totals("finetuning", "kilobytes")[-1] == 4_817_467.392
    assert counted.totals("masking", "parameters")[-1] == 894_654_720
    assert counted.totals("masking", "kilobytes") == [
        446_856.384, 455_777.664, 464_698.944, 473_620.224, 482_541.504, 491_462.784,
        500_402.88, 509_336.64, 518_412.96, 527_362.56, 536_286.816,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("FacebookAI/roberta-base", "roberta-base"),
        ("/models/distilbert-base-uncased", "distilbert-base-uncased"),
        ("all-MiniLM-L6-v2", None),
    ],
)
def test_a_base_of_the_paper_is_told_by_its_name(name: str, base: str | None) -> None:
    assert paper_base(name) == base
