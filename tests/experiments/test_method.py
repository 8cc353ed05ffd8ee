"""What a training may be of: sources of batches, losses that are no distances, an adversary."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import perceptual_jax as pj
from experiments.common import training
from experiments.common.generators import Network
from experiments.common.run_folder import RunFolder
from experiments.common.training import (
    Adversary,
    Batch,
    Method,
    Opponent,
    Schedule,
    Source,
    State,
    train,
)

BATCH, SIDE = 8, 4


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Programs for eight would be compiled for nothing."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)


def shifting(start=0.0):
    """A network that adds a number to images."""

    def apply(params, running, images):
        return images + params["shift"], running

    return Network(lambda key: ({"shift": jnp.float32(start)}, {}), apply, None)


def batch_of(step, count=BATCH):
    rng = np.random.default_rng(step)
    images = rng.integers(0, 128, (count, SIDE, SIDE, 3), dtype=np.uint8)
    return Batch(images, images + np.uint8(64))


def trained(tmp_path, method, source=None, *, steps=6, every=2, **options):
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    return train(
        method,
        source or Source(batch_of),
        Schedule(steps, BATCH, every),
        key=jax.random.key(0),
        label={"what": "it"},
        folder=RunFolder(folder, "test"),
        asked_to_stop=lambda: False,
        **options,
    )


def test_a_source_is_asked_for_every_step_once_and_in_order(tmp_path, monkeypatch):
    asked = []

    def take(step):
        asked.append(step)
        return batch_of(step)

    method = Method(shifting(), pj.make("l2"), optax.sgd(0.1))
    one = trained(tmp_path, method, Source(take, epoch=3), steps=2)
    assert asked == [0, 1, 2, 3, 4, 5]
    assert [line["epoch"] for line in one.metrics] == [2 / 3, 4 / 3, 2]
    monkeypatch.setattr(training, "chunk_length", lambda: 2)
    many = trained(tmp_path, method)
    np.testing.assert_allclose(one.state.params["shift"], many.state.params["shift"], rtol=1e-6)
    # l2 is (2 (made - wanted))^2, and bytes are 255ths: every step takes a part of what is left.
    left = (1 - 8 * 0.1) ** 6
    assert one.state.params["shift"] == pytest.approx((1 - left) * 64 / 255, rel=1e-5)


def test_what_a_source_raises_is_raised(tmp_path):
    def take(step):
        if step == 3:
            raise pj.InputError("the fourth cannot be read")
        return batch_of(step)

    with pytest.raises(pj.InputError, match="the fourth cannot be read"):
        trained(tmp_path, Method(shifting(), pj.make("l2"), optax.sgd(0.1)), Source(take))


class Masked(NamedTuple):
    """The squared error where a mask is, towards a number among the params; no distance."""

    name: str = "masked"

    def init(self, key):
        return {"aim": jnp.float32(0.25)}

    def terms(self, params, made, wanted):
        inside = jnp.where(wanted["mask"], jnp.square(made - params["aim"]), 0)
        return {
            "inside": inside.mean(axis=(1, 2, 3)),
            "outside": 0.5 * jnp.where(wanted["mask"], 0, made).mean(axis=(1, 2, 3)),
        }

    def __call__(self, params, made, wanted):
        return sum(self.terms(params, made, wanted).values())


def masked_batch(step):
    rng = np.random.default_rng(step)
    mask = rng.random((BATCH, SIDE, SIDE, 1)) < 0.5
    return Batch(np.zeros((BATCH, SIDE, SIDE, 3), np.int32), {"mask": mask})


@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_loss_wants_what_it_likes_and_its_parts_are_logged(tmp_path, microbatches):
    """By integers as inputs, a mask as what is wanted, and a param that is not trained."""
    method = Method(
        shifting(0.1), Masked(), optax.sgd(0.0), terms=("inside",), microbatches=microbatches
    )
    found = trained(tmp_path, method, Source(masked_batch), steps=4)
    for line, steps in zip(found.metrics, [(0, 1), (2, 3)], strict=True):
        share = np.mean([masked_batch(step).wanted["mask"].mean() for step in steps])
        assert line["inside"] == pytest.approx(share * 0.15**2, rel=1e-4)
        assert line["loss"] == pytest.approx(line["inside"] + 0.05 * (1 - share), rel=1e-4)
        assert "outside" not in line


def test_a_training_begins_with_what_it_is_given(tmp_path):
    method = Method(shifting(), pj.make("l2"), optax.sgd(0.0))
    given = {"shift": np.float32(0.5)}
    found = trained(tmp_path, method, first=(given, {}))
    assert found.state.params["shift"] == 0.5
    assert given["shift"] == 0.5


# --- The adversary -------------------------------------------------------------------------


def brightness():
    """An adversary that sees an image's mean alone."""

    def apply(params, running, images):
        mean = images.mean(axis=(1, 2, 3))
        return params["slope"] * mean + params["offset"], {"steps": running["steps"] + 1}

    first = {"slope": jnp.float32(2.0), "offset": jnp.float32(-1.0)}
    return Network(lambda key: (first, {"steps": jnp.zeros(())}), apply, None)


def softplus(x):
    return np.log1p(np.exp(x))


def opposed(weight, **options):
    adversary = Adversary(brightness(), optax.sgd(0.5), weight)
    return Method(shifting(), pj.make("l2"), optax.sgd(0.1), adversary=adversary, **options)


@pytest.mark.parametrize("microbatches", [1, 2])
def test_the_networks_step_in_turns(tmp_path, microbatches):
    """One step by hand: both by what the network made before either moved."""
    method = opposed(0.5, microbatches=microbatches)
    found = trained(tmp_path, method, steps=1, every=1)
    given, wanted = (np.asarray(images, np.float64) / 255 for images in batch_of(0))
    of_made, of_wanted = (2 * images.mean(axis=(1, 2, 3)) - 1 for images in (given, wanted))
    (line,) = found.metrics
    assert line["adversary"] == pytest.approx(0.5 * softplus(-of_made).mean(), rel=1e-4)
    difference = 64 / 255
    assert line["loss"] == pytest.approx((2 * difference) ** 2 + line["adversary"], rel=1e-4)
    assert line["opponent"] == pytest.approx(
        softplus(-of_wanted).mean() + softplus(of_made).mean(), rel=1e-4
    )
    # d softplus(-x)/dx = -sigmoid(-x); the logit's slope is 2.
    pull = 0.5 * 2 * (1 / (1 + np.exp(of_made))).mean()
    assert found.state.params["shift"] == pytest.approx(0.1 * (8 * difference + pull), rel=1e-4)
    of_offset = (1 / (1 + np.exp(-of_made))).mean() - (1 / (1 + np.exp(of_wanted))).mean()
    assert found.state.opponent.params["offset"] == pytest.approx(-1 - 0.5 * of_offset, rel=1e-4)
    assert found.state.opponent.running["steps"] == 2


def test_an_adversary_alone_moves_what_is_made(tmp_path):
    """Towards brighter images, as those that are wanted are."""
    method = opposed(1.0)._replace(distance=pj.weighted_sum({"l2": (0.0, pj.make("l2"))}))
    assert trained(tmp_path, method, steps=2).state.params["shift"] > 0.1
    assert trained(tmp_path, method._replace(adversary=None)).state.params["shift"] == 0


def test_without_an_adversary_there_is_no_opponent(tmp_path):
    state = trained(tmp_path, Method(shifting(), pj.make("l2"), optax.sgd(0.1))).state
    assert isinstance(state, State)
    assert state.opponent == ()
    assert isinstance(trained(tmp_path, opposed(0.1)).state.opponent, Opponent)
