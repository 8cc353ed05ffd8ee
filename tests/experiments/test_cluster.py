"""`perceptual-jax cluster`: what it finds and writes, that it resumes exactly, on any devices."""

import csv
import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

import perceptual_jax as pj
from experiments.cluster import Config, autoencoder, kmeans, means, run, spaces
from experiments.cluster import embedded as embedded_module
from experiments.cluster.one_hot import training
from experiments.cluster.scores import matched, scores
from experiments.common import loop, optimise
from experiments.common.data import labelled_images

TINY = Config(
    distances=("l2", "l1"),
    size=16,
    repeats=2,
    restarts=2,
    mean_steps=4,
    autoencoder_repeats=0,
    autoencoder_steps=4,
    autoencoder_batch=8,
)


@pytest.fixture
def folders(tmp_path):
    """Two folders of nine pictures each, one bright and one dark, and one picture astray."""
    rng = np.random.default_rng(0)
    for label, level in (("bright", 0.8), ("dark", 0.2)):
        for number in range(9):
            astray = label == "dark" and number == 0
            image = (0.8 if astray else level) + 0.05 * rng.normal(size=(40, 36, 3))
            path = tmp_path / "data" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pj.images.write(path, image)
    return str(tmp_path / "data")


# --- The run -------------------------------------------------------------------------------


def test_folders_are_told_apart_and_all_is_written(tmp_path, folders):
    found = run(
        dataclasses.replace(TINY, data=folders, autoencoder_repeats=1, out=str(tmp_path), name="a")
    )
    folder = tmp_path / "cluster" / "a"
    for by in found.values():
        assert by["k-means"].labels.shape == (2, 18)
        assert [score.recall for score in by["k-means"].scores] == [17 / 18] * 2
        assert by["autoencoder"].labels.shape == (1, 18)
        assert by["autoencoder"].pictures[0].shape == (16, 16, 3)
    results = json.loads((folder / "results.json").read_text())["results"]
    assert len(results) == 4
    assert results[0]["scores"][0]["recall"] == 17 / 18
    with (folder / "assignments.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["bright"] * 9 + ["dark"] * 9
    assert rows[0]["file"] == os.path.join("bright", "0.png")  # noqa: PTH118
    alike = [row["l2, k-means"] for row in rows]
    assert len(set(alike[:10])) == 1
    assert alike[0] != alike[10]
    page = (folder / "report.html").read_text()
    assert "10 images, 90% bright" in page
    assert (folder / "scores.png").stat().st_size > 5_000


def test_images_nearest_to_centroids_are_means_under_l2(tmp_path, folders):
    """The pixel mean is where the descent starts, and where it should stay."""
    config = dataclasses.replace(TINY, data=folders, distances=("l2",), out=str(tmp_path))
    found = run(config)["l2"]["k-means"]
    images = labelled_images(folders, 16).images / 255
    for c, picture in found.pictures.items():
        mean = images[found.labels[found.best] == c].mean(axis=0)
        np.testing.assert_allclose(picture, mean, atol=0.06)  # Four steps of 0.02 at the most.
        cost = np.square(2 * (images - mean)).mean(axis=(1, 2, 3))  # l2 is of [-1, 1].
        own = found.labels[found.best] == c
        np.testing.assert_allclose(found.cost[own], cost[own], rtol=1e-3)


def test_a_folder_without_labels_has_clusters_and_no_scores(tmp_path, folders):
    config = dataclasses.replace(
        TINY, data=f"{folders}/dark", clusters=2, out=str(tmp_path), name="a"
    )
    found = run(config)
    assert found["l2"]["k-means"].scores == []
    assert np.bincount(found["l2"]["k-means"].labels[0]).min() == 1  # The one astray.
    assert not (tmp_path / "cluster" / "a" / "scores.png").exists()


def test_minibatches_find_the_same_clusters(tmp_path, folders):
    config = dataclasses.replace(TINY, data=folders, minibatch=6, out=str(tmp_path))
    for by in run(config).values():
        assert [score.recall for score in by["k-means"].scores] == [17 / 18] * 2


STOPS = {"start": 5, "minibatch": 4, "autoencoder": 7}


@pytest.mark.parametrize("where", STOPS)
def test_a_resumed_run_equals_an_unbroken_one(tmp_path, folders, monkeypatch, where):
    """Bit for bit, stopped in the second distance's starts, a minibatch, or the autoencoder."""
    config = dataclasses.replace(
        TINY,
        data=folders,
        minibatch=6 if where == "minibatch" else 0,
        autoencoder_repeats=int(where == "autoencoder"),
        out=str(tmp_path),
    )
    whole = run(dataclasses.replace(config, name="whole"))
    module, function = {
        "start": (kmeans, "lloyd"),
        "minibatch": (kmeans, "minibatch_step"),
        "autoencoder": (autoencoder, "_shared"),
    }[where]
    inner, calls = getattr(module, function), 0

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == STOPS[where]:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner(*arguments, **options)

    monkeypatch.setattr(module, function, counted)
    with pytest.raises(loop.Interrupted, match="--name broken --resume"):
        run(dataclasses.replace(config, name="broken"))
    monkeypatch.undo()
    again = run(Config(out=str(tmp_path), name="broken", resume=True))
    for name, by in whole.items():
        for method, made in by.items():
            other = again[name][method]
            np.testing.assert_array_equal(made.labels, other.labels)
            np.testing.assert_array_equal(made.inertia, other.inertia)
            for c, picture in made.pictures.items():
                np.testing.assert_array_equal(picture, other.pictures[c])
    lines = [
        sorted((tmp_path / "cluster" / name / "metrics.jsonl").read_text().splitlines())
        for name in ("whole", "broken")
    ]
    steps = [[line for line in each if '"step": 4' in line] for each in lines]
    assert steps[0] == steps[1]


def test_one_device_equals_many(tmp_path, folders, monkeypatch):
    """18 images over eight fake devices; of the autoencoder the loss that its first step sees.

    Adam makes that step the gradient's sign, which is that of rounding where a cluster is one
    image and begins as it.
    """
    assert jax.device_count() == 8
    config = dataclasses.replace(
        TINY,
        data=folders,
        mean_steps=0,
        autoencoder_repeats=1,
        autoencoder_steps=1,
        out=str(tmp_path),
    )
    many = run(dataclasses.replace(config, name="many"))
    for module in (spaces, embedded_module, autoencoder, optimise):
        monkeypatch.setattr(module, "shard_leading", lambda tree, count: tree)
    for module in (embedded_module, autoencoder, means):
        monkeypatch.setattr(module, "replicate", lambda tree: tree)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    one = run(dataclasses.replace(config, name="one"))
    for name, by in many.items():
        for method, made in by.items():
            np.testing.assert_array_equal(made.labels, one[name][method].labels)
            if method == "k-means":
                np.testing.assert_allclose(made.inertia, one[name][method].inertia, rtol=1e-4)
    losses = [_autoencoder_losses(tmp_path / "cluster" / name) for name in ("many", "one")]
    assert len(losses[0]) == len(config.distances)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def _autoencoder_losses(folder):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "autoencoder" in line.get("what", "")]


def test_a_damaged_checkpoint_is_said(tmp_path, folders):
    config = dataclasses.replace(TINY, data=folders, out=str(tmp_path), name="a")
    run(config)
    (tmp_path / "cluster" / "a" / "checkpoints" / "starts-l2.npz").write_bytes(b"no archive")
    with pytest.raises(pj.InputError, match="cannot be read"):
        run(dataclasses.replace(config, resume=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "there is no folder nowhere"),
        (["--data", "data/dark"], "give --clusters"),
        (["--data", "data", "--clusters", "18"], "fewer than the images"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--memory", "nan"], "--memory must be"),
        (["--distances", "l2", "l2"], "each once"),
        (["--distances", "lpips-alx"], "did you mean 'lpips-alex'?"),
        (["--size", "16", "--distances", "alexnet"], "at least"),
        (["--data", "data", "--minibatch", "2", "--clusters", "3"], "fewer than 3 clusters"),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_leaves_nothing(cli, folders, options, message):
    outcome = cli("cluster", "--distances", "l2", "--size", "16", *options)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert message in outcome.err
    assert not os.path.exists("runs")  # noqa: PTH110


# --- Its parts -----------------------------------------------------------------------------


def test_the_embedded_images_are_faces_and_others():
    data = labelled_images("embedded", 32)
    assert data.images.shape == (200, 32, 32, 3)
    assert np.bincount(data.labels).tolist() == [100, 100]
    assert (data.images[..., 0] == data.images[..., 1]).all()


def bright_and_dark():
    """Images [16, 16, 16, 3], the first half of them bright."""
    level = np.repeat([0.8, 0.2], 8)[:, None, None, None]
    noise = np.random.default_rng(0).normal(size=(16, 16, 16, 3))
    return jnp.asarray(level + 0.02 * noise, jnp.float32)


def trained_on(images, first, *, balance, smoothness=0.0):
    """The one-hot autoencoder under l2: its losses, the clusters [16], the decoder's images."""
    distance = pj.make("l2")
    embedding = distance.embed({}, images)
    space = spaces.space_of(distance, {}, embedding[:4])
    origin = spaces.origin_of(space, embedding)
    targets = spaces.Points(embedding - origin, jnp.ones(16))
    train = training(
        distance, space, 2, learning_rate=1e-2, images_rate=0.02, smoothness=smoothness
    )
    state = train.init(jax.random.key(0), first)
    context = ({}, space.context, origin, jnp.float32(0.5))
    losses = []
    for step in range(60):
        now = jnp.float32(balance if step < 30 else 0)
        state, loss = train.step(context, state, images, targets, now)
        losses.append(float(loss))
    return losses, np.asarray(train.encode(state, images)), np.asarray(state.variables["images"])


@pytest.mark.parametrize("balance", [0, 1])
def test_the_autoencoder_learns_two_kinds(balance):
    images = bright_and_dark()
    losses, clusters, decoded = trained_on(images, images[::8], balance=balance)
    assert losses[-1] < losses[0] / 10
    assert set(clusters[:8]) != set(clusters[8:])
    assert len(set(clusters[:8])) == len(set(clusters[8:])) == 1
    np.testing.assert_allclose(
        decoded[clusters[[0, 8]]].mean(axis=(1, 2, 3)), [0.8, 0.2], atol=0.03
    )


def test_the_autoencoder_s_images_are_as_smooth_as_asked():
    images = bright_and_dark()
    rough, smooth = (
        trained_on(images, images[::8], balance=1, smoothness=smoothness)[2]
        for smoothness in (0.0, 0.5)
    )
    assert float(pj.total_variation(smooth).mean()) < 0.5 * float(pj.total_variation(rough).mean())
    np.testing.assert_allclose(smooth.mean(axis=(1, 2, 3)), rough.mean(axis=(1, 2, 3)), atol=0.03)


def test_balance_keeps_an_image_that_is_near_to_all_from_being_all():
    """One first image is grey, as near to bright ones as to dark ones; the other far from both."""
    images = bright_and_dark()
    first = jnp.full((2, 16, 16, 3), 0.5).at[1, ::2].set(0.3).at[1, 1::2].set(0.7)
    _, clusters, _ = trained_on(images, first, balance=0)
    assert len(set(clusters)) == 1
    losses, clusters, decoded = trained_on(images, first, balance=1)
    assert set(clusters[:8]) != set(clusters[8:])
    np.testing.assert_allclose(
        decoded[clusters[[0, 8]]].mean(axis=(1, 2, 3)), [0.8, 0.2], atol=0.03
    )
    assert losses[-1] < 0.1


LABELS = np.repeat([0, 1, 2], [10, 20, 30])


def messy(seed=0):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(60) < 0.3, rng.integers(0, 3, 60), LABELS)


def test_scores_are_scikit_learns():
    """On clusters whose numbers are the labels already, so that nothing needs matching."""
    clusters = messy()
    found = scores(LABELS, clusters, "one-to-one")
    assert found.f1 == pytest.approx(metrics.f1_score(LABELS, clusters, average="weighted"))
    assert found.precision == pytest.approx(
        metrics.precision_score(LABELS, clusters, average="weighted")
    )
    assert found.recall == pytest.approx(metrics.accuracy_score(LABELS, clusters))
    assert found.nmi == pytest.approx(metrics.normalized_mutual_info_score(LABELS, clusters))
    assert found.ari == pytest.approx(metrics.adjusted_rand_score(LABELS, clusters))


@pytest.mark.parametrize("match", ["one-to-one", "majority"])
def test_scores_do_not_depend_on_the_clusters_numbers(match):
    clusters = messy(1)
    wanted = scores(LABELS, clusters, match)
    for order in ([1, 2, 0], [2, 1, 0], [0, 2, 1]):
        assert scores(LABELS, np.asarray(order)[clusters], match) == pytest.approx(wanted)


def test_one_to_one_leaves_clusters_without_a_label_and_majority_does_not():
    labels = np.asarray([0, 0, 0, 0, 1, 1])
    clusters = np.asarray([0, 0, 1, 1, 2, 2])
    assert matched(labels, clusters, "majority").tolist() == labels.tolist()
    assert sorted(matched(labels, clusters, "one-to-one")) == [-1, -1, 0, 0, 1, 1]
    assert scores(labels, clusters, "one-to-one").recall == pytest.approx(4 / 6)


@pytest.mark.slow
def test_networks_beat_pixels_on_faces(weights_store, tmp_path):
    """On 100 faces and 100 other pictures, by at least a tenth in weighted F1."""
    config = Config(
        distances=("l2", "vgg16(metric='l2')", "lpips-vgg", "lpips-alex"),
        repeats=2,
        restarts=3,
        mean_steps=0,
        autoencoder_repeats=0,
        out=str(tmp_path),
    )
    found = {name: by["k-means"].scores for name, by in run(config).items()}
    pixels = max(score.f1 for score in found.pop("l2"))
    for name, each in found.items():
        assert min(score.f1 for score in each) > pixels + 0.1, name
