import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.peers.columns import (
    COLUMNS,
    DENSE,
    OPENVINO,
    OURS,
    PEERS,
    PRECISIONS,
    REFERENCE,
    TORCH,
    Precision,
    columns,
    fastest_dense,
    packages,
)


def test_every_candidate_is_a_column() -> None:
    assert COLUMNS.keys() == {*DENSE, OURS, *PEERS}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_a_dense_model_and_copies(precision: Precision) -> None:
    names = columns(precision, DENSE + PEERS)
    assert {*names} & {*DENSE} and OURS in names
    assert any("copies" in name for name in names)


def test_the_packages_of_what_is_wanted_only() -> None:
    assert packages("fp32", [TORCH]) == []
    assert packages("fp32", [TORCH, "polylora"]) == ["peft", "polylora"]
    assert packages("bf16", [TORCH, OPENVINO]) == ["openvino"]
    assert packages("int8", [OPENVINO]) == ["openvino", "nncf"]


def test_ratios_are_over_the_fastest_dense_model() -> None:
    assert fastest_dense({REFERENCE: 0.1, OURS: 0.2, TORCH: 2.0, OPENVINO: 1.0}) == OPENVINO
    with pytest.raises(BenchmarkError, match="no dense model"):
        fastest_dense({REFERENCE: 0.1, OURS: 0.2})
