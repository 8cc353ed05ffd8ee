"""k-means in a distance's embedding: what it finds, and that it is the same on any devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments.cluster import embedded as embedded_module
from experiments.cluster import kmeans, spaces
from experiments.cluster.embedded import embedded_images
from experiments.cluster.spaces import Points, Space, squared_distances


def plane(weights=(1.0, 1.0)) -> Space:
    return Space(jnp.asarray([weights], jnp.float32), squared_distances, True)


def as_points(values) -> Points:
    values = jnp.asarray(values, jnp.float32)
    return Points(values, jnp.ones(len(values)))


def blobs(count=4, each=30, spread=0.3, seed=0):
    """Points around the corners of a square whose middle is 0, and whose they are."""
    corners = np.asarray([[-5, -5], [-5, 5], [5, -5], [5, 5]])[:count]
    labels = np.repeat(np.arange(count), each)
    noise = np.random.default_rng(seed).normal(size=(count * each, 2))
    return corners[labels] + spread * noise, labels


def same_partition(a, b) -> bool:
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


def clustered(space, points, count, key=0, **options):
    places = kmeans.plus_plus(space, points, count, jax.random.key(key))
    return kmeans.lloyd(space, points, spaces.chosen(points.values, places), **options)


@pytest.mark.parametrize("key", range(3))
def test_blobs_are_recovered(key):
    values, labels = blobs()
    found = clustered(plane(), as_points(values), 4, key)
    assert same_partition(labels, found.labels)
    wanted = np.stack([values[found.labels == c].mean(axis=0) for c in range(4)])
    np.testing.assert_allclose(found.centroids, wanted, atol=1e-5)
    cost = np.square(values - wanted[found.labels]).sum()
    np.testing.assert_allclose(found.inertia, cost, rtol=1e-5)


def test_it_is_the_clustering_of_scikit_learn():
    """From the same start, on points without any structure."""
    cluster = pytest.importorskip("sklearn.cluster")
    values = np.random.default_rng(1).normal(size=(200, 5)).astype(np.float32)
    first = values[:6]
    theirs = cluster.KMeans(6, init=first, n_init=1, tol=0).fit(values)
    space = Space(jnp.ones((1, 5)), squared_distances, True)
    ours = kmeans.lloyd(space, as_points(values), jnp.asarray(first), iterations=300)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-5)


def test_inertia_never_rises():
    values = np.random.default_rng(2).normal(size=(300, 4))
    space = Space(jnp.ones((1, 4)), squared_distances, True)
    points = as_points(values)
    # All from one corner: a start that takes many iterations.
    first = jnp.asarray(values[np.argsort(values[:, 0])[:12]], jnp.float32)
    history = np.asarray(kmeans.lloyd(space, points, first).history)
    assert len(history) > 5
    assert (np.diff(history) <= 1e-6 * history[0]).all()


def test_an_empty_cluster_takes_the_farthest_point():
    """Of two centroids where nothing is, each gets a point of its own, the farthest two."""
    values = np.asarray([[0, 0], [0.1, 0], [0, 0.1], [5, 0], [0, 7]])
    first = jnp.asarray([[0, 0], [99, 99], [99, 98]], jnp.float32)
    found = kmeans.lloyd(plane(), as_points(values), first)
    assert same_partition(np.asarray([0, 0, 0, 1, 2]), found.labels)
    history = found.history
    assert all(b <= a for a, b in itertools.pairwise(history))


def test_points_that_are_all_alike_need_no_second_cluster():
    found = clustered(plane(), as_points(np.ones((6, 2))), 2)
    assert found.inertia == 0
    assert np.isfinite(found.centroids).all()


def test_the_next_centroid_is_drawn_by_its_distance():
    """k-means++: of 4,000 draws, as many of each point as its squared distance says."""
    odds = np.asarray([0.0, 1.0, 4.0, 0.0, 9.0, 2.0])
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.vmap(lambda key: kmeans.drawn(jnp.asarray(odds, jnp.float32), key))
    counts = np.bincount(np.asarray(draw(keys)), minlength=odds.size)
    wanted = 4000 * odds / odds.sum()
    assert (counts[odds == 0] == 0).all()
    statistic = (np.square(counts - wanted)[odds > 0] / wanted[odds > 0]).sum()
    assert statistic < 16.3  # The 99.9% point of chi-squared with 3 degrees of freedom.


def test_starts_are_far_apart():
    """Of four tight blobs k-means++ takes one point each, as uniform draws seldom do (9%)."""
    values, labels = blobs(spread=0.01)
    for key in range(10):
        places = kmeans.plus_plus(plane(), as_points(values), 4, jax.random.key(key))
        assert sorted(labels[places]) == [0, 1, 2, 3]


def test_points_of_no_weight_change_nothing():
    values, _ = blobs()
    points = as_points(values)
    filled = Points(
        jnp.concatenate([points.values, jnp.full((8, 2), 50.0)]),
        jnp.concatenate([points.weight, jnp.zeros(8)]),
    )
    a, b = clustered(plane(), points, 4), clustered(plane(), filled, 4)
    np.testing.assert_array_equal(a.labels, b.labels[: len(values)])
    np.testing.assert_allclose(a.centroids, b.centroids, atol=1e-6)


def test_it_stops_when_asked_to():
    values, _ = blobs()
    assert clustered(plane(), as_points(values), 4, asked_to_stop=lambda: True) is None


# --- Spaces --------------------------------------------------------------------------------

_LAYER = "alexnet-random(layers=('conv1',)"
EUCLIDEAN = ("l2", f"{_LAYER}, metric='l2')", f"{_LAYER}, metric='gram')", "lpips-alex")
OTHERS = ("l1", "ssim", f"{_LAYER})", "swd")


def embedding_of(name, count=4, size=32):
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (count, size, size, 3))
    return distance, params, jax.jit(lambda p, x: distance.embed(p, x))(params, images)


@pytest.mark.parametrize("name", EUCLIDEAN)
def test_matrix_products_give_the_distances(weights_store, name):
    distance, params, embedding = embedding_of(name)
    space = spaces.space_of(distance, params, embedding)
    assert space.euclidean
    wanted = np.asarray(pj.pairwise(distance, params, embedding, embedding))
    origin = spaces.origin_of(space, embedding)
    points = spaces.points_of(embedding, origin).values
    found = np.asarray(space.distances(space.context, points, points))[:4, :4]
    # A difference of squares as large as the largest distance: 2e-5 of it is what is left of 0.
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=5e-5 * wanted.max())


@pytest.mark.parametrize("name", OTHERS)
def test_other_distances_are_compared_pair_by_pair(name):
    distance, params, embedding = embedding_of(name)
    space = spaces.space_of(distance, params, embedding)
    assert not space.euclidean
    origin = spaces.origin_of(space, embedding)
    points = spaces.points_of(embedding, origin).values
    found = space.distances(space.context, points, spaces.chosen(embedding, np.asarray([2, 0])))
    wanted = pj.pairwise(distance, params, embedding, embedding)
    np.testing.assert_allclose(found[:4], wanted[:, np.asarray([2, 0])], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_coordinates_keep_all_distances(name):
    """Of 14 embeddings of 3,072 numbers each: 14 coordinates, and two that fill up the devices.

    l1 is squared Euclidean too, in a space of its own.
    """
    distance, params, embedding = embedding_of(name, count=14)
    space = spaces.space_of(distance, params, embedding)
    points = spaces.points_of(embedding, spaces.origin_of(space, embedding))
    apart = None if space.euclidean else pj.pairwise(distance, params, *[points.values] * 2)
    flat, few = spaces.coordinates(space, points, None if apart is None else np.asarray(apart))
    assert few.values.shape == (16, 16)
    found = flat.distances(flat.context, few.values, few.values)[:14, :14]
    wanted = pj.pairwise(distance, params, embedding, embedding)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * float(wanted.max()))


# --- Devices and minibatches ---------------------------------------------------------------


def pictures(count=21, size=16, seed=0):
    """Bright, dark and striped ones, in turns."""
    rng = np.random.default_rng(seed)
    images = rng.normal(scale=10, size=(count, size, size, 3))
    images += np.asarray([200, 50, 120])[np.arange(count) % 3, None, None, None]
    images[2::3, ::2] += 60
    return np.clip(images, 0, 255).astype(np.uint8)


def embedded(name, images, **options):
    default = {"seed": 0, "images_at_once": 4, "memory": 1.0, "minibatch": 0}
    return embedded_images(pj.make(name), images, **{**default, **options})


@pytest.mark.parametrize("name", ["l2", "l1"])
def test_one_device_equals_many(monkeypatch, name):
    """21 images do not divide by eight: three are filled up, and count for nothing."""
    assert jax.device_count() == 8
    images = pictures()

    def found():
        seen = embedded(name, images)
        got = clustered(seen.space, seen.points, 3)
        return np.asarray(got.labels)[:21], got.inertia, seen.means(got.labels[:21], 3)

    many = found()
    for module in (spaces, embedded_module):
        monkeypatch.setattr(module, "shard_leading", lambda tree, count: tree)
    monkeypatch.setattr(embedded_module, "replicate", lambda tree: tree)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one = found()
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_allclose(many[1], one[1], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), many[2], one[2])
    assert same_partition(one[0], np.arange(21) % 3)


def test_minibatches_see_the_same_points():
    images = pictures()
    whole, parts = embedded("l2", images), embedded("l2", images, minibatch=8)
    assert whole.points is not None
    assert parts.points is None
    assert [which.size for which, _ in parts.blocks()] == [8, 8, 5]
    labels = np.arange(21) % 3
    means = [
        jax.tree.map(lambda leaf, shift: leaf + shift, each.means(labels, 3), each.origin)
        for each in (whole, parts)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *means)
    a, b = (each.costs(each.means(labels, 3), labels) for each in (whole, parts))
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_what_does_not_fit_is_taken_in_parts():
    assert embedded("l2", pictures(), memory=1e-4).points is None


def test_minibatches_come_near_the_whole():
    """The inertia of five passes in batches of 20 is within 2% of Lloyd's, from the same start."""
    points = as_points(blobs(each=50, spread=2.0)[0])
    first = kmeans.plus_plus(plane(), points, 4, jax.random.key(0))
    whole = kmeans.lloyd(plane(), points, spaces.chosen(points.values, first)).inertia
    state = (spaces.chosen(points.values, first), jnp.zeros(4))
    rng = np.random.default_rng(0)
    for _ in range(5):
        for which in rng.permutation(200).reshape(10, 20):
            batch = Points(points.values[which], points.weight[which])
            state = kmeans.minibatch_step(squared_distances, plane().context, batch, *state)
    assert float(state[1].sum()) == 1000
    _, costs = kmeans.assigned(squared_distances, plane().context, points, state[0])
    assert float(costs.sum()) < 1.02 * whole


def test_a_minibatch_of_all_points_is_one_iteration():
    values, labels = blobs()
    points = as_points(values)
    first = jnp.asarray(values[[0, 30, 60, 90]], jnp.float32)
    context = plane().context
    moved, seen = kmeans.minibatch_step(squared_distances, context, points, first, jnp.zeros(4))
    wanted = np.stack([values[labels == c].mean(axis=0) for c in range(4)])
    np.testing.assert_allclose(moved, wanted, atol=1e-5)
    assert seen.tolist() == [30, 30, 30, 30]
