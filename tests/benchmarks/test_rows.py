"""What the rows time is the same work on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import perceptual_jax as pj
from benchmarks import __main__ as table
from benchmarks import (
    clustering,
    generators,
    growth,
    image_mean,
    metrics,
    style_transfer,
    throughput,
)
from benchmarks.timing import Peers, Row, Taken
from benchmarks.torch_forms import DRAWN

pytestmark = pytest.mark.usefixtures("weights_store")


@pytest.fixture
def standard_promotion():
    """Optax relies on implicit promotion; the library itself is tested without."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
def test_scores_are_the_same():
    torch.manual_seed(0)
    ours, theirs = metrics.scores(2).call(), metrics.scores_in_torch(2).call()
    assert len(ours) == 20
    assert ours.keys() == theirs.keys()
    for name, wanted in theirs.items():
        rtol = 0.2 if name in DRAWN else 1e-4
        np.testing.assert_allclose(ours[name], np.stack(wanted), rtol=rtol, err_msg=name)


def test_triplets_that_share_images_are_scored_the_same(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", {"no network": ("l2", "ssim")})
    work = metrics.scores_of_shared_images(4, images=5)
    found = work.call()
    assert (found.shape, work.items) == ((2, 4, 2), 4)
    assert (found > 0).all()
    assert len(np.unique(found)) < found.size  # of 8 pairs, some come again


def test_throughput_is_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "_TRIPLETS", 10)
    seconds, found = throughput.measured("l2", 4, tmp_path)
    assert np.isfinite(seconds)
    assert found.shape == (20,)
    assert (found > 0).all()
    rates = {name: list(range(1, 7)) for name in throughput.DISTANCES}
    throughput.plot({"1 devices": rates, "8 devices": rates}, tmp_path / "throughput.png")
    assert (tmp_path / "throughput.png").stat().st_size > 10_000


def test_assignments_are_the_same():
    ours, theirs = clustering.assign(3), clustering.assign_in_loops(1)
    assert ours.call()[:1].tolist() == theirs.call()
    assert (ours.items, theirs.items) == (3, 1)


@pytest.mark.usefixtures("standard_promotion")
def test_generators_take_the_same_steps():
    """But where a slope is nearly 0: Adam makes a step of 0.01 of what rounding left there."""
    ours, theirs = generators.glo(2), generators.glo_in_torch(2)
    for _ in range(2):
        apart = np.abs(np.asarray(ours.call()) - theirs.call().numpy())
        assert (apart > 1e-4).mean() < 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ["vgg16", "mmd++"])
def test_image_means_take_steps_as_good(name):
    """By Adam's first step, the gradient's sign: where that is near 0, rounding decides."""
    row = image_mean.ROWS[f"image-mean {name} 6x128"]
    distance = pj.make(name)
    params = distance.init(jax.random.key(0))
    targets = image_mean.target_images()[0]

    def loss(image):
        return jax.jit(distance.__call__)(params, jnp.asarray(image), targets).mean()

    begun = loss(image_mean.starting_image())
    steps = [np.asarray(build().call()) for build in row.ways.values()]
    gains = [
        begun - loss(step if step.shape[-1] == 3 else step.transpose(0, 2, 3, 1)) for step in steps
    ]
    assert gains[0] > 0
    for way, gain in zip(row.ways, gains, strict=True):
        if name in DRAWN and "PyTorch" in way:
            # A step down the same mean of other random features: worth most of ours.
            assert gain > 0.5 * gains[0]
        else:
            np.testing.assert_allclose(gain, gains[0], rtol=0.01)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_style_transfers_take_the_same_step():
    """But where a slope is nearly 0: Adam's first step is its sign."""
    (row,) = style_transfer.ROWS.values()
    ours, *theirs = (np.asarray(build().call()) for build in row.ways.values())
    assert np.abs(ours - style_transfer.start()).max() > 0.02
    for theirs_step in theirs:
        apart = np.abs(ours - theirs_step.transpose(0, 2, 3, 1))
        assert (apart > 1e-4).mean() < 0.01


# --- The table -----------------------------------------------------------------------------


def test_each_kind_of_peers_has_its_ratio_and_budget(monkeypatch):
    nothing = lambda: None  # noqa: E731
    peers = {
        "PyTorch": Peers({"a": nothing, "b": nothing}, 1.0),
        "JAX": Peers({"c": nothing}, 0.5),
        "missing": Peers({"d": nothing}, 0.5),
    }
    row = Row(nothing, peers, limit=2.0)
    monkeypatch.setattr(table, "row_of", lambda name: row)
    taken = {
        way: Taken(seconds, seconds, seconds, 0.0, None)
        for way, seconds in {"ours": 1.0, "a": 4.0, "b": 2.0, "c": 1.0}.items()
    }
    assert table.ratios("row", taken) == {"PyTorch": (0.5, 1.0), "JAX": (1.0, 0.5)}
    assert [line[5] for line in table.lines("row", taken, 1.0)] == [
        "2000 ms",
        "1.00",
        "1.00",
        "0.50",
    ]


def test_growth_is_measured_and_drawn(tmp_path):
    name, point = next(growth.by_batch())
    assert name == "lpips-vgg"
    assert point.size == 1
    assert min(point[1:]) > 0
    lines = {name: [point, point._replace(size=2)]}
    growth.plot({"batch": lines, "devices": lines}, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
