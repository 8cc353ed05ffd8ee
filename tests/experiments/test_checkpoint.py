"""Checkpoints: which of them stay, and that each holds what was saved."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import checkpoint
from perceptual_jax.errors import InputError


def state_of(step):
    return {"weights": jnp.full((2, 3), float(step)), "step": jnp.asarray(step)}


def saved(folder, losses, **options):
    """Saves a state for each step and loss."""
    for step, loss in losses.items():
        checkpoint.save(folder, step, state_of(step), loss=loss, **options)
    return sorted(int(path.name) for path in folder.iterdir())


def test_only_the_last_stays_where_nothing_else_is_said(tmp_path):
    assert saved(tmp_path, {10: None, 20: None, 30: None}) == [30]
    assert checkpoint.latest_step(tmp_path) == 30
    assert checkpoint.best_step(tmp_path) is None


def test_the_last_few_and_the_best_stay(tmp_path):
    losses = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.5, 50: 1.2}
    assert saved(tmp_path, losses, keep=2) == [20, 40, 50]
    assert checkpoint.best_step(tmp_path) == 20
    assert checkpoint.latest_step(tmp_path) == 50


def test_a_better_one_takes_the_place_of_the_best(tmp_path):
    assert saved(tmp_path, {10: 3.0, 20: 1.0, 30: 2.0, 40: 0.5, 50: 0.5, 60: 0.7}) == [50, 60]


def test_every_one_that_stays_holds_its_own_state(tmp_path):
    for step in saved(tmp_path, {10: 1.0, 20: 2.0, 30: 3.0}, keep=2):
        found = checkpoint.restore(tmp_path, step, state_of(0))
        np.testing.assert_array_equal(found["weights"], state_of(step)["weights"])
        assert int(found["step"]) == step


def test_what_a_resumed_run_has_forgotten_is_removed(tmp_path):
    """Also if it was the best."""
    saved(tmp_path, {10: 3.0, 20: 2.0, 30: 1.0}, keep=3)
    assert saved(tmp_path, {15: 2.5}, keep=3) == [10, 15]


def test_a_damaged_one_is_not_the_best_and_cannot_be_read(tmp_path):
    saved(tmp_path, {10: 1.0, 20: 2.0}, keep=2)
    for file in (tmp_path / "10").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    assert checkpoint.best_step(tmp_path) == 20
    with pytest.raises(InputError, match="delete it to start over"):
        checkpoint.restore(tmp_path, 10, state_of(0))
