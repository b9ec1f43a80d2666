from transformers import TrainerState

from training.loop.history import best_epoch, is_finished


def test_finished_follows_from_the_state_alone() -> None:
    state = TrainerState(epoch=3.0, num_train_epochs=10, max_steps=100, global_step=30, best_global_step=10)
    assert best_epoch(state) == 1
    assert is_finished(state, patience=2)
    assert not is_finished(state, patience=3)
    state.epoch = 10.0
    assert is_finished(state, patience=30)
    state.epoch, state.best_global_step = 3.0, None
    assert is_finished(state, patience=2)
    assert not is_finished(state, patience=2, first_candidate=5)
