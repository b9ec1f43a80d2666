from dataclasses import replace

import pytest

from lab.random_tasks import random_signs
from mask_store import TaskManifest
from masking import Base, TaskSpec, know_task, load_task
from tests.support.models import random_bundle
from tests.support.server_parts import CHOICE, SINGLE, TAGS


def test_what_is_known_of_a_task_is_what_is_loaded_of_it(base: Base) -> None:
    bundle = random_bundle(base, SINGLE, task="demo")
    assert isinstance(bundle.manifest, TaskManifest)
    known, loaded = know_task(bundle.manifest, bundle.digest, base), load_task(bundle, base)
    assert loaded.known == replace(known, codec=loaded.codec)
    assert known.manifest == bundle.manifest
    assert known.is_of(bundle.manifest)
    assert not known.is_of(bundle.manifest.model_copy(update={"task": "other"}))
    assert isinstance(bundle.manifest, TaskManifest)
    assert known.metric == (bundle.manifest.metric, bundle.manifest.metrics[bundle.manifest.metric])
    assert (known.name, known.copies, known.combine) == ("demo", 1, None)
    assert known.finetuned_bytes == bundle.manifest.finetuned_bytes
    assert known.base_checked == loaded.base_checked
    assert known.shortened(8).spec.max_length == 8


@pytest.mark.parametrize("spec", [SINGLE, TAGS, CHOICE])
def test_its_bytes_are_foretold(base: Base, spec: TaskSpec) -> None:
    for bundle in (random_bundle(base, spec), random_signs(base, "signs", 0)):
        known = know_task(bundle.manifest, bundle.digest, base)
        assert known.ready_bytes == load_task(bundle, base).nbytes
