"""Descent on images: both optimisers, their bounds, terms, scales, and where it stops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.common import loop
from experiments.common.optimise import (
    Problem,
    Schedule,
    adam_descent,
    coarse_to_fine,
    descend,
    lbfgs_descent,
    scales,
)
from experiments.common.run_folder import RunFolder

TARGETS = jax.random.uniform(jax.random.key(0), (3, 6, 5, 3), minval=0.1, maxval=0.9)
FIRST = jax.random.uniform(jax.random.key(1), TARGETS.shape, minval=0.1, maxval=0.9)
SCALE = jnp.array([1.0, 1e2, 1e-2])
"""One problem is steep and one flat: line searches of their own are of different lengths."""


def to_the_fourth(context, images):
    """Convex, not quadratic; least where images equal the targets."""
    shared, (targets, scale) = context
    rest = images - targets
    powers = shared * (rest**2 + rest**4).mean(axis=(1, 2, 3))
    return {"near": scale * powers, "small": 1e-3 * scale * jnp.square(images).mean(axis=(1, 2, 3))}


CONTEXT = (jnp.float32(2.0), (TARGETS, SCALE))

DESCENTS = {
    "adam": adam_descent(to_the_fourth, learning_rate=0.02),
    "adam-sigmoid": adam_descent(to_the_fourth, learning_rate=0.05, bounds="sigmoid"),
    "lbfgs": lbfgs_descent(to_the_fourth),
    "lbfgs-sigmoid": lbfgs_descent(to_the_fourth, bounds="sigmoid"),
}


@pytest.mark.parametrize("name", DESCENTS)
def test_the_least_is_found(name):
    descent = DESCENTS[name]
    state = descent.init(FIRST)
    state = descent.advance(CONTEXT, state, {"adam": 300, "adam-sigmoid": 1500}.get(name, 100))
    np.testing.assert_allclose(descent.images(state), TARGETS, atol=2e-3)


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_problems_side_by_side_are_each_alone(name):
    """After five steps, whatever the others' slopes are."""
    descent = DESCENTS[name]

    def after_five(places):
        own = (TARGETS[places], SCALE[places])
        state = descent.init(FIRST[places])
        return descent.images(descent.advance((CONTEXT[0], own), state, 5))

    together = after_five(np.arange(3))
    for i in range(3):
        np.testing.assert_allclose(together[i : i + 1], after_five(np.array([i])), atol=1e-5)


@pytest.mark.parametrize("bounds", ["clip", "sigmoid"])
def test_images_stay_within_bounds(bounds):
    """Though the target is outside."""
    descent = adam_descent(
        lambda context, images: jnp.square(images - context[1]).mean(axis=(1, 2, 3)),
        learning_rate=0.2,
        bounds=bounds,
    )
    context = (None, jnp.full_like(FIRST, 3.0))
    images = descent.images(descent.advance(context, descent.init(FIRST), 40))
    assert images.max() <= 1
    assert images.min() > 0.9


def test_a_clipped_line_search_is_refused():
    with pytest.raises(pj.InputError, match="not 'clip'"):
        lbfgs_descent(to_the_fourth, bounds="clip")


def test_scales_double_up_to_the_size():
    assert scales((64, 100), 3) == [(16, 25), (32, 50), (64, 100)]
    assert scales((64, 100), 1) == [(64, 100)]


def to_smooth_targets(size):
    targets = jax.image.resize(TARGETS, (3, *size, 3), "linear")
    return Problem(DESCENTS["adam"], lambda draw: (jnp.float32(2.0), (targets, jnp.ones(3))))


def test_coarse_to_fine_ends_at_the_last_size_and_resumes_exactly(tmp_path):
    """Stopped in the middle of the second scale; the steps count through."""

    def found(name, asked_to_stop):
        folder = RunFolder(tmp_path / name, "test")
        folder.path.mkdir(exist_ok=True)
        return coarse_to_fine(
            to_smooth_targets,
            FIRST,
            scales((12, 10), 3),
            Schedule(30, snapshot_every=4),
            label={"of": "targets"},
            folder=folder,
            asked_to_stop=asked_to_stop,
            snapshot=lambda step, images: {"mean": float(images.mean())},
        )

    whole = found("whole", lambda: False)
    assert whole.images.shape == (3, 12, 10, 3)
    assert [line["step"] for line in whole.metrics] == [4, 8, 10, 14, 18, 20, 24, 28, 30]
    assert [line["scale"] for line in whole.metrics[::3]] == ["2x3", "5x6", "10x12"]
    first, last = (whole.metrics[i]["terms"]["near"] for i in (0, -1))
    assert all(b < a for a, b in zip(first, last, strict=True))

    answers = iter([False] * 16 + [True])
    with pytest.raises(loop.Interrupted, match="step 7 of 10 of targets 5x6"):
        found("broken", lambda: next(answers))
    resumed = found("broken", lambda: False)
    np.testing.assert_array_equal(whole.images, resumed.images)
    assert all(line in resumed.metrics for line in whole.metrics)


def test_a_loss_that_is_not_finite_is_said(tmp_path):
    descent = adam_descent(
        lambda context, images: jnp.log(images.min(axis=(1, 2, 3)) - 2), learning_rate=0.1
    )
    with pytest.raises(pj.InputError, match="nothing: the loss is not finite at step 2"):
        descend(
            Problem(descent, lambda draw: (None, None)),
            FIRST,
            Schedule(10, snapshot_every=2),
            label={"of": "nothing"},
            folder=RunFolder(tmp_path, "test"),
            asked_to_stop=lambda: False,
        )


def test_the_context_is_drawn_when_the_schedule_says(tmp_path):
    drawn = []

    def context(draw):
        drawn.append(draw)
        return CONTEXT

    found = descend(
        Problem(DESCENTS["adam"], context),
        FIRST,
        Schedule(7, snapshot_every=100, redraw_every=3),
        label={"of": "draws"},
        folder=RunFolder(tmp_path, "test"),
        asked_to_stop=lambda: False,
    )
    assert drawn == [0, 1, 2]
    assert found.seconds_per_step > 0
