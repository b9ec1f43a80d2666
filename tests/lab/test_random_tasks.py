import pytest

from lab.random_models import random_base
from lab.random_tasks import Classifier, Workload, deal_rows, random_bundle, random_tasks
from masking import Base


@pytest.fixture(scope="module")
def base() -> Base:
    return random_base("tiny")


@pytest.mark.parametrize("assignment", ["even", "uniform", "zipf"])
def test_every_row_has_a_task(base: Base, assignment: str) -> None:
    tasks, counts = random_tasks(base, 5, 0.05), deal_rows(assignment, 5, 16)
    workload = Workload.of_counts(base, tasks, counts, 4)
    owners = [task for task, rows in zip(workload.tasks, workload.features, strict=True) for _ in rows]
    assert owners == [task for task, count in zip(tasks, counts, strict=True) for _ in range(count)]
    ids = [list(one.rows[0].input_ids) for rows in workload.features for one in rows]
    assert ids == workload.ids.tolist()
    assert len(owners) == len(ids) == 16


def test_how_rows_are_dealt() -> None:
    assert deal_rows("even", 3, 8) == [3, 3, 2]
    many = deal_rows("zipf", 4, 100_000)
    assert many[0] / many[3] == pytest.approx(4.0, rel=0.05)
    assert deal_rows("uniform", 4, 16, seed=1) != deal_rows("uniform", 4, 16, seed=2)


def test_masks_have_the_zeros_asked_for(base: Base) -> None:
    task = random_tasks(base, 1, 0.07)[0]
    assert task.bundle.manifest.sparsity == pytest.approx(0.07, abs=0.01)


def test_a_bundle_of_each_kind_has_its_classifier_and_taggers_no_pooler(base: Base) -> None:
    tagger = random_bundle(base, "t", 0.05, 0, classifier=Classifier("token-classification", 9))
    choice = random_bundle(base, "c", 0.05, 0, classifier=Classifier("multiple-choice", 0))
    rows = [{layer.name: layer.rows for layer in one.members[0].info.layers} for one in (tagger, choice)]
    assert [found["classifier"] for found in rows] == [9, 1]
    assert ["pooler.dense" in found for found in rows] == [False, True]
    assert (len(tagger.manifest.labels), len(choice.manifest.labels)) == (9, 0)
