import pytest

from mask_store import TaskKind
from training.kinds import TRAINING_KINDS
from training.options import METRICS, ROLES


@pytest.mark.parametrize("kind", list(ROLES))
def test_a_kind_has_the_columns_and_metrics_that_can_be_asked_for(kind: TaskKind) -> None:
    own = TRAINING_KINDS[kind]
    assert own.name == kind
    assert tuple(own.columns) == ROLES[kind]
    assert own.optional <= own.columns.keys()
    assert own.choose_metric(("a", "b"), None) in METRICS[kind]
