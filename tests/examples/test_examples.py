"""The programs in examples/ run, and do what they say."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from perceptual_jax import catalogue

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def example(name: str):
    """The program as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def plain_jax():
    """JAX as users have it, where tests have it strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_every_example_is_explained():
    text = (EXAMPLES / "README.md").read_text()
    for file in EXAMPLES.glob("*.py"):
        assert f"]({file.name})" in text


def test_a_distance_of_your_own(capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "_ENTRIES", dict(catalogue._ENTRIES))
    distance = example("custom_distance").main()
    assert distance.name == pj.make("colour").name == "colour"
    assert "all pairs:      (4, 4)" in capsys.readouterr().out
    x, y = jax.random.uniform(jax.random.key(0), (2, 3, 20, 24, 3))
    # The definition: the yellow of one is that of the other and .1 more, the red and green too.
    np.testing.assert_allclose(distance({}, 0.5 * x, 0.5 * x + 0.1), 0, atol=1e-6)
    redder = (0.5 * x).at[..., 0].add(0.1)
    np.testing.assert_allclose(distance({}, 0.5 * x, redder), (0.1 + 0.05) / 2, rtol=1e-4)
    np.testing.assert_allclose(distance({}, x, y), distance({}, y, x), rtol=1e-6)
    gradient = jax.grad(lambda x: distance({}, x, x + 0).sum())(x)
    assert jnp.all(gradient == 0)


def test_nearest_pictures(weights_store, tmp_path, capsys):
    """A picture's blurred copy is nearest to it, and what is no picture is left out."""
    rng = np.random.default_rng(0)
    smooth = [pj.images.resize(rng.integers(0, 256, (5, 5, 3), np.uint8), 80) for _ in range(34)]
    for number, image in enumerate(smooth):
        pj.images.write(tmp_path / f"{number}.png", image)
    near = np.clip(smooth[3].astype(int) + rng.integers(-8, 8, (80, 80, 3)), 0, 255)
    pj.images.write(tmp_path / "near.png", near.astype(np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "found" / "row.png"
    out.parent.mkdir()
    found = example("nearest_pictures").main(
        [str(tmp_path), "--query", str(tmp_path / "3.png"), "--count", "4", "--out", str(out)]
    )
    assert found[0] == tmp_path / "near.png"
    assert len(found) == 4
    assert tmp_path / "3.png" not in found
    assert "left out" in capsys.readouterr().err
    assert pj.images.read(out).shape[1] == 5 * 160 + 4 * 2


@pytest.mark.slow
def test_a_vae_learns(weights_store, tmp_path, capsys):
    out = tmp_path / "vae.png"
    terms = example("vae_with_lpips").main(steps=60, out=str(out))
    first = capsys.readouterr().out.splitlines()[0]
    begun = float(first.split("'l1': ")[1].split(",")[0])
    assert terms["l1"] < 0.8 * begun
    assert set(terms) == {"l1", "lpips", "divergence"}
    assert pj.images.read(out).shape == (3 * 96 + 4, 9 * 96 + 16, 3)
