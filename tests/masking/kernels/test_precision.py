"""Which precision is taken, and what is said where it can't be."""

import pytest
import torch

from masking.kernels import choose_precision
from masking.kernels.cpu import launch as native
from masking.kernels.cpu import lines, processor
from masking.kernels.cpu.lines import launch
from masking.kernels.cuda import launch as cuda
from tests.masking.kernels.conftest import needs_kernels

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
EVERYTHING = frozenset({"avx2", "avx512f", "avx512bw", "avx512bf16", "avx512vnni"})


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    lines.available()  # kernels are made for the processor that there is

    def set_features(*without: str) -> None:
        monkeypatch.setattr(processor, "features", lambda: EVERYTHING - set(without))

    return set_features


@needs_kernels
def test_auto_is_bf16_where_the_processor_multiplies_it(has) -> None:  # type: ignore[no-untyped-def]
    has()
    assert choose_precision("auto", CPU) == "bf16"
    has("avx512bf16")
    assert choose_precision("auto", CPU) == "fp32"


def test_without_kernels_there_is_fp32_only(has) -> None:  # type: ignore[no-untyped-def]
    has()
    assert choose_precision("auto", CPU, "off") == "fp32"
    with pytest.raises(ValueError, match=r"precision int8: needs the CPU kernels.*; this device has fp32$"):
        choose_precision("int8", CPU, "off")


def test_without_numba_there_is_fp32_only(has, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    has()
    monkeypatch.setattr(native, "available", lambda: False)
    assert choose_precision("auto", CPU) == "fp32"


@needs_kernels
def test_a_refusal_says_what_is_missing_and_what_there_is(has) -> None:  # type: ignore[no-untyped-def]
    has("avx512bf16")
    with pytest.raises(ValueError) as refused:
        choose_precision("bf16", CPU)
    assert str(refused.value) == (
        "precision bf16: needs a processor with AVX512-BF16, and this one has AVX2, AVX-512, AVX512-VNNI; "
        "this device has fp32, int8"
    )


@needs_kernels
def test_precisions_of_a_gpu_are_refused_on_a_cpu(has) -> None:  # type: ignore[no-untyped-def]
    has()
    with pytest.raises(ValueError, match=r"precision tf32: needs CUDA; this device has fp32, bf16, int8"):
        choose_precision("tf32", CPU)


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"precision 'fp64' is not one of auto, fp32, bf16, int8"):
        choose_precision("fp64", CPU)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def set_capability(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
        monkeypatch.setattr(cuda, "available", lambda: True)

    return set_capability


def test_int8_is_not_for_a_gpu(gpu) -> None:  # type: ignore[no-untyped-def]
    gpu(9, 0)
    with pytest.raises(ValueError, match="precision int8: needs a CPU"):
        choose_precision("int8", CUDA)


def test_auto_is_bf16_on_a_gpu_that_multiplies_it(gpu) -> None:  # type: ignore[no-untyped-def]
    gpu(8, 0)
    assert choose_precision("auto", CUDA) == "bf16"
    assert choose_precision("tf32", CUDA) == "tf32"
    gpu(7, 5)
    assert choose_precision("auto", CUDA) == "fp32"
    with pytest.raises(ValueError, match=r"bf16: needs a GPU of compute capability 8\.0 .* has fp32$"):
        choose_precision("bf16", CUDA)


def test_the_processor_has_a_name() -> None:
    assert processor.processor_name()


@needs_kernels
def test_a_kernel_that_can_not_be_compiled_is_not_chosen(has, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    has()
    monkeypatch.setattr(lines, "available", lambda: False)
    assert choose_precision("auto", CPU) == "fp32"
    with pytest.raises(
        ValueError, match=r"precision bf16: needs a kernel that can't be compiled here; .* fp32$"
    ):
        choose_precision("bf16", CPU)


def test_a_failure_to_compile_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("LLVM is unhappy")

    monkeypatch.setattr(launch, "_kernel", broken)
    lines.available.cache_clear()
    try:
        assert not lines.available()
    finally:
        lines.available.cache_clear()
    assert caplog.messages == ["the line kernel can't be used here: LLVM is unhappy"]
