import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mask_store import StoreNotFoundError
from masking import Base, MaskedEncoder, TaskBatch
from masking.tasks.predictions import Floats
from server.build import build_service
from server.settings import Settings, SettingsError
from tests.support.serving import (
    SPECS,
    TEXT,
    bundle_of,
    fill,
    predict,
    settings_of,
    started,
    texts,
    wait_until,
)


def test_the_store_is_looked_for_before_the_base_is_loaded(tmp_path: Path) -> None:
    settings = Settings(base=str(tmp_path / "no-base"), store=str(tmp_path / "no-store"))
    with pytest.raises(StoreNotFoundError):
        build_service(settings)


@pytest.mark.parametrize("folder", ["new", "empty", "volume"])
def test_a_server_can_begin_with_an_empty_store(base: Base, tmp_path: Path, folder: str) -> None:
    place = tmp_path / "store"
    if folder != "new":
        place.mkdir()
    if folder == "volume":
        (place / "lost+found").mkdir()
    with started(base, place, create_store=folder == "new") as service:
        assert not service.registry.entries
        done = service.lifecycle.publish("names", bundle_of(base, "names").to_bytes())
        assert (done.created, done.served.version) == (True, 1)
    with started(base, place, create_store=True) as service:
        assert list(service.registry.tasks) == ["names"]


def test_a_folder_with_something_else_is_no_store(base: Base, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreNotFoundError):
        build_service(settings_of(tmp_path), base=base)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_device_that_this_machine_lacks(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, [])
    with pytest.raises(SettingsError, match="--device cuda:99"):
        build_service(Settings(base=tiny_bert, store=str(tmp_path), device="cuda:99"))


def test_the_base_is_loaded_by_its_name(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    fill(tmp_path, base, [])
    service = build_service(Settings(base=tiny_bert, store=str(tmp_path), device="cpu"))
    assert service.base.info == base.info
    assert service.why_not_ready() == "the worker is not running"


def test_a_base_is_never_written(base: Base, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.encoder.state_dict().items()}
    fill(tmp_path, base, ["sentiment"])
    with started(base, tmp_path) as service:
        asyncio.run(predict(service, texts(TEXT)))
    assert all(torch.equal(before[name], tensor) for name, tensor in base.encoder.state_dict().items())


def test_without_kernels_the_answer_is_the_same(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AssertionError("a kernel was asked for")

    fill(tmp_path, base, ["sentiment"])
    answers = []
    for kernels in ("auto", "off"):
        if kernels == "off":
            monkeypatch.setattr("masking.kernels.cpu.launch._kernels", fail)
        with started(base, tmp_path, kernels=kernels) as service:
            answers.append(asyncio.run(predict(service, texts(TEXT)))[0].logits)
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


@pytest.mark.parametrize(("option", "tokens"), [(0, 8192), (77, 77)])
def test_the_token_limit_is_chosen_by_the_device_or_the_operator(
    base: Base, tmp_path: Path, option: int, tokens: int
) -> None:
    fill(tmp_path, base, [])
    service = build_service(settings_of(tmp_path, max_batch_tokens=option), base=base)
    assert service.engine.queue.limits.tokens == tokens


def test_one_input_is_computed_before_the_server_is_ready(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, base)
    computed: list[tuple[str, bool]] = []
    real = MaskedEncoder.logits

    def logits(encoder: MaskedEncoder, batch: Sequence[TaskBatch]) -> list[list[Floats]]:
        computed.extend((one.task.manifest.task, service.engine.ready) for one in batch)
        return real(encoder, batch)

    monkeypatch.setattr(MaskedEncoder, "logits", logits)
    service = build_service(settings_of(tmp_path), base=base)
    service.start()
    try:
        wait_until(lambda: service.why_not_ready() is None)
        assert [ready for _, ready in computed] == [False]
    finally:
        service.close()


def test_a_task_that_fails_to_warm_up_keeps_nobody_waiting(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cold")

    fill(tmp_path, base, ["sentiment"])
    monkeypatch.setattr(MaskedEncoder, "logits", fail)
    with started(base, tmp_path) as service:
        assert service.engine.worker.restarts == 0
    assert "warming up with task sentiment failed" in caplog.text


@pytest.mark.parametrize("name", SPECS)
def test_every_kind_of_task_is_warmed_up(
    base: Base, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, base, [name])
    with started(base, tmp_path):
        assert "warming up" not in caplog.text


def test_a_keys_file_that_is_not_there_is_a_wrong_setting(base: Base, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--keys-file: the keys file .* can't be read: No such file"):
        build_service(settings_of(tmp_path, keys_file=tmp_path / "none.json"), base=base)
