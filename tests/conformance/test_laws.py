"""The laws of every distance: what other code may rely on, over the whole table of cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import perceptual_jax as pj
from perceptual_jax.distance import Distance
from tests.conformance.cases import CASES, GRAM_MATRICES, Case

pytestmark = pytest.mark.usefixtures("weights_store")

SIZE = (33, 40)
SAME = 5  # The first pairs are identical images: where distances and gradients go wrong.
# The next differs in one pixel. Where features agree up to rounding, its sign decides the gradient
# of a network's l1: gradients of different programs are compared on the pairs after it.
FAR = 6


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Eight pairs in [0, 1]: five identical, one pixel apart, far apart, and a noisy copy."""
    rng = np.random.default_rng(0)
    shape = (*SIZE, 3)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] / 10
    smooth = 0.5 + 0.4 * np.sin(rows + np.arange(3)[:, None, None]) * np.cos(columns)
    smooth = np.moveaxis(smooth, 0, -1)
    noise = rng.uniform(size=shape)
    same = [noise, np.zeros(shape), np.ones(shape), np.full(shape, 0.5), noise.round()]
    one_pixel = noise.copy()
    one_pixel[10, 20] = 1 - one_pixel[10, 20]
    noisy = np.clip(smooth + rng.normal(0, 0.1, shape), 0, 1)
    x = [*same, noise, np.zeros(shape), smooth]
    y = [*same, one_pixel, noise, noisy]
    return np.stack(x).astype(np.float32), np.stack(y).astype(np.float32)


X, Y = pairs()


def extremes(largest: float) -> tuple[np.ndarray, np.ndarray]:
    """Sixteen pairs of huge, tiny, flat and equal images, as large as the eight."""
    noise = np.random.default_rng(0).uniform(0.1, 1, (*SIZE, 3))
    flat = np.ones_like(noise)
    found = [
        (largest * flat, noise),
        (-largest * flat, noise),
        (largest * flat, -largest * flat),
        (largest * flat, largest * flat),
        (largest * (2 * noise - 1), noise),
        (largest * (2 * noise - 1), largest * (1 - 2 * noise)),
        (np.sqrt(largest) * noise, noise),
        (largest**0.4 * noise, noise),
        (1e-40 * noise, 2e-40 * noise),  # Numbers that float32 has but few digits of.
        (1e-40 * noise, 0 * flat),
        (1e-20 * noise, 2e-20 * noise),  # Their squares are such, or 0.
        (noise, noise + 1e-7),
        (noise, 0 * flat),
        (0 * flat, 0 * flat),
        (0.3 * flat, 0.3 * flat),
        (0.3 * flat, 0.3 * flat + 1e-7),
    ]
    x, y = (np.stack(each).astype(np.float32) for each in zip(*found, strict=True))
    return x, y


class Subject(NamedTuple):
    """A case made once for all laws.

    Attributes:
      distance: the distance.
      params: its params.
      call: the distance, jitted.
      run: jitted `run(params, x, y) -> (values, gradient in x, gradient in y)`.
      traces: grows by one whenever `run` is traced.
    """

    distance: Distance
    params: dict
    call: Callable
    run: Callable
    traces: list


@cache
def subject(label: str) -> Subject:
    distance = CASES[label].make()
    traces = []

    def run(params, x, y):
        traces.append(label)
        values, pullback = jax.vjp(lambda x, y: distance(params, x, y), x, y)
        return values, *pullback(jnp.ones_like(values))

    params = distance.init(jax.random.key(0))
    call = jax.jit(distance.__call__)
    return Subject(distance, params, call, jax.jit(run), traces)


@cache
def results(label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and gradients of the eight pairs."""
    distance = subject(label)
    return jax.tree.map(np.asarray, distance.run(distance.params, X, Y))


@cache
def embeddings(label: str):
    """The eight pairs, embedded by one program."""
    distance = subject(label)
    embed = jax.jit(distance.distance.embed)
    return embed(distance.params, X), embed(distance.params, Y)


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case(request):
    """Every case in turn: all laws of one, then it is forgotten, for its programs take memory."""
    yield request.param
    for made in (subject, results, embeddings):
        made.cache_clear()
    jax.clear_caches()


@pytest.fixture
def model(case):
    """The cases that stand for others of the same code, where a law is of the code alone."""
    if case.like:
        pytest.skip(f"{case.like} is held to this, and the code is the same")
    return case


def some(embedding, start: int, stop: int | None = None):
    """A slice of every leaf, by NumPy: JAX would compile one for each shape."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[start:stop], embedding)


def variant(case: Case, **options) -> Callable:
    """`call(x, y)` of the case with other options, operation by operation.

    They are those of `test_jit_is_eager`, most of them compiled already.
    """
    distance = case.make(**options)
    return partial(distance, distance.init(jax.random.key(0)))


def assert_close(got, wanted, case: Case) -> None:
    """Values to the case's tolerance relative to the largest; gradients as whole vectors.

    At a kink (l1, ReLU, max pooling) rounding decides which way an entry goes.
    """
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert g.shape == w.shape
        if w.ndim < 3:
            np.testing.assert_allclose(g, w, rtol=case.float32, atol=case.float32 * np.abs(w).max())
        else:
            assert np.linalg.norm(g - w) <= case.gradient * np.linalg.norm(w)


def test_every_distance_has_a_case():
    assert {label.split("(")[0] for label in CASES} >= set(pj.names())
    # What is like another is checked there, so that one must not be like a third.
    assert not any(CASES[case.like].like for case in CASES.values() if case.like)


# --- 1. Values and gradients ---------------------------------------------------------------


def test_identical_images_are_at_zero_and_at_rest(case):
    """d(x, x) = 0 and its gradient is 0 where the definition says so.

    Exactly, or where XLA fuses the two passes differently and they round apart, within `rounding`.
    """
    values, *gradients = results(case.label)
    if not case.zero:
        assert (values[:SAME] >= case.least).all()
        return
    np.testing.assert_allclose(values[:SAME], 0, atol=case.rounding)
    for gradient in gradients:
        usual = max(1.0, np.abs(gradient[FAR:]).max())
        np.testing.assert_allclose(gradient[:SAME], 0, atol=case.rounding * usual)


def test_numbers_stay_numbers(case):
    """For images up to the largest; larger ones are refused where they can be seen."""
    distance = subject(case.label)
    x, y = extremes(case.largest)
    with pytest.raises(pj.InputError, match=re.escape(f"at most {case.largest:g}, or")):
        distance.distance.embed(distance.params, 2 * x)
    for part in (slice(0, 8), slice(8, 16)):
        found = distance.run(distance.params, x[part], y[part])
        for name, numbers in zip(("values", "gradient of x", "gradient of y"), found, strict=True):
            finite = np.isfinite(np.asarray(numbers)).reshape(8, -1).all(axis=1)
            assert finite.all(), f"{name} of pairs {part.start + np.flatnonzero(~finite)}"


def test_an_embedding_is_at_zero_and_at_rest_from_itself(case):
    """compare(e, e) = 0 and its gradient is 0, where the definition says so.

    Exactly, but for embeddings that hold a part of the value, which another program rounded.
    """
    distance, params, *_ = subject(case.label)
    embedding, _ = embeddings(case.label)

    @jax.jit
    def value_and_gradient(params, e, itself):
        value, pullback = jax.vjp(lambda e: distance.compare(params, e, itself), e)
        return value, *pullback(jnp.ones_like(value))

    value, gradient = value_and_gradient(params, embedding, embedding)
    if not case.zero:
        assert (value >= case.least).all()
        return
    if not case.at_rest:
        np.testing.assert_allclose(value, 0, atol=case.rounding)
        return
    np.testing.assert_array_equal(value, 0)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, 0)


def test_different_images_are_apart(case):
    """Values are finite and not negative, and positive where images differ."""
    values = results(case.label)[0]
    assert values.shape == (len(X),)
    assert np.isfinite(values).all()
    assert (values >= min(case.least, 0)).all()
    assert (values[SAME:] > 0).all()


def test_gradients_are_finite(case):
    """Everywhere: identical, flat, black, white, saturated images, one pixel apart."""
    for gradient in results(case.label)[1:]:
        assert np.isfinite(gradient).all()
        if case.always_moves:
            assert (np.abs(gradient[SAME:]).max(axis=(1, 2, 3)) > 0).all()


def test_symmetry(case):
    """d(x, y) = d(y, x) where promised, and visibly not otherwise."""
    _, params, _, run, *_ = subject(case.label)
    values, in_x, in_y = results(case.label)
    swapped = run(params, Y, X)
    if case.symmetric:
        assert_close(swapped[0][SAME:], values[SAME:], case)
        assert_close(some(swapped[1:], FAR), some((in_y, in_x), FAR), case)
    else:
        assert not np.allclose(swapped[0], values, rtol=1e-3)


# --- 2. Samples are independent ------------------------------------------------------------


def test_a_pair_does_not_see_the_rest_of_the_batch(case):
    """Values and gradients of a pair stay as they are when its neighbours change."""
    _, params, _, run, *_ = subject(case.label)
    others_x, others_y = 1 - X[::-1], np.roll(Y, 3, axis=0)
    others_x[-1], others_y[-1] = X[-1], Y[-1]
    got = run(params, others_x, others_y)
    assert_close(some(got, -1), some(results(case.label), -1), case)


def test_batch_is_a_loop_of_singles(model):
    _, params, call, *_ = subject(model.label)
    singles = np.concatenate([call(params, X[i : i + 1], Y[i : i + 1]) for i in range(len(X))])
    assert_close(singles, results(model.label)[0], model)


def test_batch_is_vmap(model):
    distance, params, *_ = subject(model.label)

    @jax.jit
    def mapped(params, x, y):
        return jax.vmap(lambda x, y: distance(params, x[None], y[None])[0])(x, y)

    assert_close(mapped(params, X, Y), results(model.label)[0], model)


# --- 3. One against many -------------------------------------------------------------------


def test_one_is_compared_with_many(model):
    """n = 1 on either side: values as if repeated, and its gradient is the sum."""
    _, params, call, run, _ = subject(model.label)
    one, repeated = X[-1:], np.repeat(X[-1:], len(Y), axis=0)
    values, in_one, in_many = run(params, repeated, Y)
    got_values, got_in_one, got_in_many = run(params, one, Y)
    assert_close(got_values, values, model)
    assert_close(got_in_many, in_many, model)
    assert_close(got_in_one, in_one.sum(0, keepdims=True), model)
    many_and_one = call(params, Y, one)
    assert_close(many_and_one, run(params, Y, repeated)[0], model)


def test_embedded_once_and_compared(case):
    """compare(embed(x), embed(y)) is the call; an embedding's leaves lead with n."""
    distance, params, *_ = subject(case.label)
    ex, ey = embeddings(case.label)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(ex)} == {len(X)}
    assert_close(distance.compare(params, ex, ey), results(case.label)[0], case)


def test_pairwise_is_a_loop_of_rows(model):
    """Values and gradient; a chunk of 2 divides neither set, one of 5 is a row."""
    distance, params, *_ = subject(model.label)
    ex, ey = embeddings(model.label)
    ex, ey = some(ex, 5), some(ey, 3)
    slopes = np.arange(1, 16, dtype=np.float32).reshape(3, 5)

    @jax.jit
    def of_row(params, one, ey, slopes):
        values, pullback = jax.vjp(lambda one: distance.compare(params, one, ey), one)
        return values, *pullback(slopes)

    rows = [of_row(params, some(ex, i, i + 1), ey, slopes[i]) for i in range(3)]
    values, gradients = zip(*rows, strict=True)
    gradient = jax.tree.map(lambda *leaves: np.concatenate(leaves), *gradients)

    @partial(jax.jit, static_argnames="chunk")
    def of_all(params, ex, ey, slopes, chunk):
        values, pullback = jax.vjp(
            lambda ex: pj.pairwise(distance, params, ex, ey, chunk=chunk), ex
        )
        return values, *pullback(slopes)

    for chunk in (2, 5):
        assert_close(
            of_all(params, ex, ey, slopes, chunk=chunk), (np.stack(values), gradient), model
        )


# --- 4. Compilation and devices ------------------------------------------------------------


def test_jit_is_eager(case):
    distance, params, *_ = subject(case.label)
    assert_close(distance(params, X, Y), results(case.label)[0], case)


def test_traced_once_over_many_steps(case):
    """New images and params of the same shapes do not trace again."""
    _, params, _, run, traces = subject(case.label)
    results(case.label)
    before = len(traces)
    for step in range(3):
        run(jax.tree.map(jnp.copy, params), X * 0.5**step, Y)
    assert len(traces) == before


def spread_and_everywhere() -> tuple[NamedSharding, NamedSharding]:
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())


def test_eight_devices_are_one(model):
    """A batch spread over eight devices: the same values, spread as it was."""
    _, params, call, *_ = subject(model.label)
    spread, everywhere = spread_and_everywhere()
    got = call(jax.device_put(params, everywhere), *jax.device_put((X, Y), spread))
    assert got.sharding.is_equivalent_to(spread, 1)
    assert_close(got, results(model.label)[0], model)


@pytest.mark.parametrize("label", ["gradient", GRAM_MATRICES, "windows"])
def test_gradients_on_eight_devices_are_those_on_one(label):
    _, params, _, run, *_ = subject(label)
    spread, everywhere = spread_and_everywhere()
    got = run(jax.device_put(params, everywhere), *jax.device_put((X, Y), spread))
    assert got[1].sharding.is_equivalent_to(spread, 4)
    assert_close(some(got, FAR), some(results(label), FAR), CASES[label])


@pytest.mark.parametrize("label", ["ssim", "lpips-alex", "windows"])
def test_export(label):
    """An exported program computes the distance; to serialise it needs flatbuffers besides."""
    distance, params, *_ = subject(label)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (params, X, Y))
    exported = jax.export.export(jax.jit(distance.__call__))(*shapes)
    assert exported.out_avals[0].shape == (len(X),)
    assert_close(exported.call(params, X, Y), results(label)[0], CASES[label])


# --- 5. Arithmetic -------------------------------------------------------------------------


def test_float32_in_float32_out(case):
    assert {part.dtype for part in results(case.label)} == {np.dtype(np.float32)}


def test_float64_in_float64_out(case):
    """Params follow the images; float32 is right to its tolerance, the gradient to differences."""
    distance, params, *_ = subject(case.label)
    rng = np.random.default_rng(0)
    step = 1e-8  # Few units cross a kink on so short a way; values round by 1e-16.
    with jax.enable_x64(True):
        x, y = X[SAME:].astype(np.float64), Y[SAME:].astype(np.float64)
        to_x, to_y = step * rng.standard_normal((2, *x.shape))

        @jax.jit
        def run(params, x, y):
            values, pullback = jax.vjp(lambda x, y: distance(params, x, y), x, y)
            return values, *pullback(jnp.ones_like(values))

        values, in_x, in_y = jax.tree.map(np.asarray, run(params, x, y))
        assert values.dtype == in_x.dtype == in_y.dtype == np.float64
        assert_close(results(case.label)[0][SAME:], values, case)
        ahead, behind = (run(params, x + s * to_x, y + s * to_y)[0] for s in (1, -1))
        change = (np.asarray(ahead) - np.asarray(behind)) / 2
        predicted = (in_x * to_x + in_y * to_y).sum(axis=(1, 2, 3))
        # The last pair: in the others are flat images and equal pixels, where there are kinks.
        np.testing.assert_allclose(change[-1], predicted[-1], rtol=case.slope)


def test_bfloat16_within_its_bound(case):
    """dtype="bfloat16" gives float32 numbers, off by no more than the bound stated."""
    if case.bfloat16 is None:
        pytest.skip("has no dtype option; its parts do")
    distance = case.make(dtype="bfloat16")
    params = distance.init(jax.random.key(0))
    values = jax.jit(distance.__call__)(params, X[SAME:], Y[SAME:])
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, results(case.label)[0][SAME:], rtol=case.bfloat16)


# --- 6. Images -----------------------------------------------------------------------------


def test_value_ranges_agree(case):
    """The same pictures in [0, 1], [-1, 1] and [0, 255] are at the same distance."""
    for low, high in ((-1.0, 1.0), (0.0, 255.0)):
        x, y = ((low + (high - low) * images).astype(np.float32) for images in (X, Y))
        call = variant(case, value_range=(low, high))
        assert_close(call(x, y)[SAME:], results(case.label)[0][SAME:], case)


def test_uint8_means_0_to_255(case):
    """Whatever the value range is."""
    _, params, _, run, *_ = subject(case.label)
    x, y = (np.round(images * 255).astype(np.uint8) for images in (X, Y))
    as_floats = run(params, x.astype(np.float32) / 255, y.astype(np.float32) / 255)[0]
    assert_close(variant(case, value_range=(-1.0, 1.0))(x, y)[SAME:], as_floats[SAME:], case)


def shapes(x: tuple[int, ...], y: tuple[int, ...] | None = None, dtype=np.float32):
    return [jax.ShapeDtypeStruct(shape, dtype) for shape in (x, y or x)]


def test_smallest_image(case):
    """The size stated works; one pixel less raises, in either direction."""
    distance, params, *_ = subject(case.label)
    side = case.smallest
    value = jax.eval_shape(distance.__call__, params, *shapes((2, side, side, 3)))
    assert value.shape == (2,)
    for height, width in ((side - 1, side), (side, side - 1)):
        with pytest.raises(ValueError, match=r"at least \d+x\d+ pixels"):
            jax.eval_shape(distance.__call__, params, *shapes((2, height, width, 3)))


BAD_IMAGES = {
    "no batch axis": (shapes((*SIZE, 3)), r"add the batch axis"),
    "rank 5": (shapes((1, 1, *SIZE, 3)), r"\[n, h, w, c\]"),
    "no channels": (shapes((1, *SIZE, 0)), r"channels"),
    "integers": (shapes((1, *SIZE, 3), dtype=np.int32), r"dtype int32"),
    "booleans": (shapes((1, *SIZE, 3), dtype=np.bool_), r"dtype bool"),
    "complex": (shapes((1, *SIZE, 3), dtype=np.complex64), r"dtype complex64"),
    "batches of 2 and 3": (shapes((2, *SIZE, 3), (3, *SIZE, 3)), r"cannot be compared"),
    "other channels": (shapes((1, *SIZE, 3), (1, *SIZE, 4)), r"channels|cannot be compared"),
    "other size": (shapes((1, 33, 40, 3), (1, 40, 33, 3)), r"cannot be compared"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_images_raise_at_trace_time(case, bad):
    """A ValueError that names the distance, what came and what is wanted."""
    distance, params, *_ = subject(case.label)
    images, message = BAD_IMAGES[bad]
    if case.any_sizes and bad == "other size":
        pytest.skip("compares images of different sizes")
    with pytest.raises(pj.InputError, match=message):
        jax.eval_shape(distance.__call__, params, *images)


def test_grey_images(case):
    """Any number of channels, or an error that says how to make three."""
    distance, params, *_ = subject(case.label)
    grey = shapes((2, *SIZE, 1))
    if not case.colour:
        assert jax.eval_shape(distance.__call__, params, *grey).shape == (2,)
        return
    with pytest.raises(ValueError, match=r"jnp\.repeat"):
        jax.eval_shape(distance.__call__, params, *grey)


# --- Parts and names -----------------------------------------------------------------------


def test_terms_add_up(case):
    distance, params, *_ = subject(case.label)
    terms = distance.compare_terms(params, *embeddings(case.label))
    assert {term.shape for term in terms.values()} == {(len(X),)}
    assert_close(sum(terms.values()), results(case.label)[0], case)


def test_maps_say_where(case):
    """The means of the maps are the terms; their resized sum peaks where the images differ."""
    distance, params, *_ = subject(case.label)
    one_pixel = slice(SAME, SAME + 1)
    if not case.maps:
        with pytest.raises(pj.InputError, match="no map"):
            distance.map(params, X[one_pixel], Y[one_pixel])
        return
    maps = distance.compare_maps(params, *embeddings(case.label))
    assert_close(sum(m.mean(axis=(1, 2)) for m in maps.values()), results(case.label)[0], case)
    whole = jax.jit(distance.map)(params, X[one_pixel], Y[one_pixel])
    assert whole.shape == (1, *SIZE)
    row, column = np.unravel_index(np.argmax(whole[0]), SIZE)
    assert abs(row - 10) <= 8
    assert abs(column - 20) <= 8


NAMED = [
    label
    for label, case in CASES.items()
    if label.split("(")[0] in pj.names() and not case.stand_in
]


@pytest.mark.parametrize("label", NAMED)
def test_name_makes_it_again(label):
    """pj.make(d.name) is d: the same name, the same draws."""
    distance, params, *_ = subject(label)
    again = pj.make(distance.name)
    assert again.name == distance.name
    jax.tree.map(np.testing.assert_array_equal, again.init(jax.random.key(0)), params)
