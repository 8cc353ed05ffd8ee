"""Checkpoints: which of them stay, and that each holds what was saved."""

import errno
import shutil

import jax
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
    with pytest.raises(InputError, match="10 cannot be read"):
        checkpoint.restore(tmp_path, 10, state_of(0))


def largest_file(folder):
    """Where the numbers are."""
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def random_state(seed):
    """Of numbers that do not compress: most of the file are theirs."""
    return {"weights": jax.random.normal(jax.random.key(seed), (64, 64)), "step": jnp.asarray(seed)}


def flip(path):
    """Changes a byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def remove_arrays(folder):
    shutil.rmtree(folder / "state" / "ocdbt.process_0")


DAMAGES = {
    "flipped": lambda folder: flip(largest_file(folder)),
    "missing": remove_arrays,
    "sums": lambda folder: (folder / "crc32.json").write_bytes(b"["),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path, capsys, damage):
    for step in (10, 20):
        checkpoint.save(tmp_path, step, random_state(step), keep=2, loss=1.0)
    damage(tmp_path / "20")
    step, found = checkpoint.restore_latest(tmp_path, random_state(0))
    assert step == 10
    np.testing.assert_array_equal(found["weights"], random_state(10)["weights"])
    said = capsys.readouterr().out
    assert f"{tmp_path / '20'} " in said
    assert "going on from step 10" in said


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_where_the_only_one_is_damaged_it_is_said_what_to_delete(tmp_path, damage):
    checkpoint.save(tmp_path, 10, random_state(10))
    damage(tmp_path / "10")
    with pytest.raises(InputError, match=f"delete {tmp_path} to start this training over"):
        checkpoint.restore_latest(tmp_path, random_state(0))


def test_one_whose_checksums_were_not_written_yet_is_read(tmp_path):
    """A process that is killed between a checkpoint and these loses nothing."""
    checkpoint.save(tmp_path, 10, random_state(10))
    (tmp_path / "10" / "crc32.json").unlink()
    step, found = checkpoint.restore_latest(tmp_path, random_state(0))
    assert step == 10
    np.testing.assert_array_equal(found["weights"], random_state(10)["weights"])


def test_nothing_saved_is_a_beginning(tmp_path):
    like = random_state(0)
    assert checkpoint.restore_latest(tmp_path / "none", like) == (0, like)


def test_on_a_full_disk_nothing_is_begun_and_the_last_one_stays(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 10, random_state(10))
    needed = 64 * 64 * 4 + 4
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.save(tmp_path, 20, random_state(20))
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def test_a_disk_that_fills_up_meanwhile_leaves_the_last_one_and_no_rest(tmp_path, monkeypatch):
    """What writes arrays then raises a ValueError, and leaves a folder."""
    from orbax.checkpoint.experimental import v1 as orbax

    checkpoint.save(tmp_path, 10, random_state(10))

    def fail(path, *_, **__):
        path.with_name(f"{path.name}.orbax-checkpoint-tmp").mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device [28]")

    monkeypatch.setattr(orbax, "save", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.save(tmp_path, 20, random_state(20))
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["10"]
