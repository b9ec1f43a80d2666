import pytest

from experiments.published.beside import Beside, printed, tolerance
from experiments.published.facts import Cell


@pytest.mark.parametrize(
    ("base", "full", "shown", "compared"),
    [
        ("roberta-base", True, "roberta-base", True),
        ("roberta-base", False, "roberta-base", False),
        ("all-MiniLM-L6-v2", True, "bert-base-uncased", False),
    ],
)
def test_only_the_papers_bases_with_its_rows_and_settings_are_compared(
    base: str, full: bool, shown: str, compared: bool
) -> None:
    beside = Beside.of(base, full=full)
    assert beside == Beside(shown, compared)
    assert ("is an aside" in beside.note) is not compared


def test_a_difference_has_a_tolerance() -> None:
    beside = Beside("bert-base-uncased", True)
    assert beside.difference(86.5, None, Cell(mean=86.1, std=0.3)) == "+0.40, within 1.00"
    assert beside.difference(84.1, 0.0, Cell(mean=86.1, std=0.3)) == "-2.00, beyond 1.00"
    assert beside.difference(84.1, 0.9, Cell(mean=86.1, std=1.2)) == "-2.00, within 3.00"
    assert beside.difference(84.1, 0.9, None) == "-"
    assert Beside("bert-base-uncased", False).difference(84.1, 0.9, Cell(mean=86.1, std=1.2)) == "-"
    assert tolerance(0.1, 0.1) == 1.0
    assert printed(Cell(mean=59.5, std=0.1)) == "59.5 ± 0.1"
