"""Fast style transfer: the network, its loss, the exported program, and the two commands."""

import dataclasses
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import fast_style, stylise
from experiments.common import loop, training
from experiments.common.data import embedded_picture
from experiments.fast_style import networks
from experiments.fast_style.config import Config
from experiments.fast_style.loss import style_loss
from experiments.fast_style.networks import KIND, stylised

CONTENT = "alexnet-random(layers=('conv2',), metric='l2')"
STYLE = "alexnet-random(layers=('conv1', 'conv2'), metric='gram')"
TINY = Config(
    content_distance=CONTENT, style_distance=STYLE, style_size=64, width=4, blocks=1, crop=64,
    batch=8, steps=6, snapshot_every=2, export_size=64, test=("chelsea",),
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def drawn():
    """A network of random weights: jitted use, and params."""
    made_by = KIND.build(4, 1)
    params, _ = made_by.init(jax.random.key(0))
    return jax.jit(made_by.use), params


@pytest.mark.parametrize("size", [(40, 48), (41, 50), (33, 64)])
def test_pictures_of_any_size_keep_it(drawn, size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = stylised(*drawn, picture)
    assert made.dtype == np.uint8
    assert made.shape == picture.shape
    assert made.std() > 1


def test_an_image_does_not_see_the_rest_of_the_batch(drawn):
    use, params = drawn
    images = np.random.default_rng(0).random((3, 32, 32, 3), dtype=np.float32)
    together = use(params, {}, images)
    alone = use(params, {}, images[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_contrast_does_not_matter_to_normalised_maps(drawn):
    """The first maps are normalised image by image: half the contrast draws the same picture."""
    use, params = drawn
    images = np.random.default_rng(0).random((1, 32, 32, 3), dtype=np.float32)
    fainter = 0.5 + 0.5 * (images - 0.5)
    np.testing.assert_allclose(use(params, {}, images), use(params, {}, fainter), atol=0.02)


def test_the_last_layer_is_a_convolution():
    """And so are its gradients."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 12, 15, 4)).astype(np.float32)
    layer = networks._Pixels(9)
    params = layer.init(jax.random.key(0), maps)
    params = {"params": params["params"] | {"bias": jnp.array([1.0, 2.0, 3.0])}}

    def convolved(params, maps):
        own = params["params"]
        plain = jax.lax.conv_general_dilated(
            maps, own["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return plain + own["bias"].reshape(1, 1, 1, 3)

    np.testing.assert_allclose(layer.apply(params, maps), convolved(params, maps), atol=1e-5)
    ours, plain = (
        jax.jit(jax.grad(lambda p, m, f=f: jnp.sin(f(p, m)).sum(), (0, 1)))(params, maps)
        for f in (layer.apply, convolved)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, plain)


def test_the_loss_is_its_definition():
    """Terms by hand; and what a photograph itself would score: no content, all of the style."""
    content, style = pj.make(CONTENT), pj.make(STYLE)
    rng = np.random.default_rng(0)
    painting = rng.random((48, 56, 3), dtype=np.float32)
    photographs, made = rng.random((2, 3, 64, 64, 3), dtype=np.float32)
    key = jax.random.key(3)
    loss = style_loss(content, style, painting, photographs, weights=(2.0, 5.0, 0.5), key=key)
    params = loss.init(key)
    terms = jax.jit(loss.terms)(params, made, photographs)
    both = {**content.init(key), **style.init(key)}
    grey = np.full_like(photographs, 0.5)
    paintings = style.embed(both, painting[None])

    def of_style(images):
        return style.compare(both, style.embed(both, images), paintings)

    wanted = {
        "content": 2 * content(both, made, photographs)
        / content(both, grey, photographs).mean(),
        "style": 5 * of_style(made) / of_style(photographs).mean(),
        "variation": 0.5 * pj.total_variation(made) / pj.total_variation(photographs).mean(),
    }  # fmt: skip
    for term, values in wanted.items():
        np.testing.assert_allclose(terms[term], values, rtol=1e-3)
    total = jax.jit(loss.__call__)(params, made, photographs)
    np.testing.assert_allclose(total, sum(terms.values()), rtol=1e-5)
    untouched = jax.jit(loss.terms)(params, photographs, photographs)
    assert np.abs(untouched["content"]).max() < 1e-5
    assert untouched["style"].mean() == pytest.approx(5, rel=1e-3)


# --- The runs ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run's folder, and what it drew."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(jax, "device_count", lambda: 1)
        found = fast_style.run(dataclasses.replace(TINY, out=str(out), name="a"))
    return out / "fast-style" / "a", found


def test_all_is_written(whole):
    folder, found = whole
    assert found["chelsea"].shape == embedded_picture("chelsea").shape
    np.testing.assert_array_equal(pj.images.read(folder / "chelsea.png"), found["chelsea"])
    page = (folder / "report.html").read_text()
    assert "One style, in one pass" in page
    assert "the style" in page
    names = {path.name for path in folder.iterdir()}
    assert {"chelsea-step-2.png", "chelsea-step-6.png", "style-64.jax"} <= names


def test_a_resumed_run_equals_an_unbroken_one(whole, tmp_path, monkeypatch):
    steps_taken, chunk = 0, loop.chunk_length()

    def stop_after_three_steps():
        nonlocal steps_taken
        steps_taken += 1
        if steps_taken == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return chunk

    monkeypatch.setattr(training, "chunk_length", stop_after_three_steps)
    with pytest.raises(loop.Interrupted, match="--name a --resume"):
        fast_style.run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    monkeypatch.setattr(training, "chunk_length", lambda: chunk)
    found = fast_style.run(Config(out=str(tmp_path), name="a", resume=True))
    np.testing.assert_array_equal(found["chelsea"], whole[1]["chelsea"])


def test_one_device_equals_many(whole, tmp_path, many_devices):
    fast_style.run(dataclasses.replace(TINY, out=str(tmp_path), name="a"))
    one, many = (
        [line.split('"loss": ')[1].split(",")[0] for line in path.read_text().splitlines()]
        for path in (whole[0] / "metrics.jsonl", tmp_path / "fast-style" / "a" / "metrics.jsonl")
    )
    np.testing.assert_allclose(np.float64(one), np.float64(many), rtol=1e-4)


def test_the_exported_program_needs_jax_alone(whole, tmp_path):
    """In another process, without this library; the same picture as the network's."""
    image = np.random.default_rng(0).random((1, 64, 64, 3), dtype=np.float32)
    np.save(tmp_path / "image.npy", image)
    script = f"""
import sys
import numpy as np
from jax import export
program = export.deserialize(bytearray(open({str(whole[0] / "style-64.jax")!r}, "rb").read()))
made = program.call(np.load({str(tmp_path / "image.npy")!r}))
np.save({str(tmp_path / "made.npy")!r}, made)
assert not any(name.split(".")[0] in ("perceptual_jax", "experiments") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    saved = fast_style.network_files.read(whole[0] / "network-strokes.safetensors", KIND)
    use = jax.jit(KIND.build(*saved.shape.values()).use)
    np.testing.assert_allclose(
        np.load(tmp_path / "made.npy"), use(saved.params, {}, jnp.asarray(image)), atol=1e-5
    )


def test_folders_are_stylised(whole, tmp_path, picture):
    picture("photos/a.png", size=(40, 60))
    picture("photos/b.png", size=(50, 40), seed=1)
    found = stylise.run(
        stylise.Config(
            pictures=(str(tmp_path / "photos"),), network=str(whole[0]), out=str(tmp_path), name="s"
        )
    )
    assert {name: image.shape for name, image in found.items()} == {
        "a": pj.images.read(tmp_path / "photos" / "a.png").shape,
        "b": pj.images.read(tmp_path / "photos" / "b.png").shape,
    }
    for name, image in found.items():
        written = pj.images.read(tmp_path / "stylise" / "s" / f"{name}.png")
        np.testing.assert_array_equal(written, image)
    smaller = stylise.run(
        stylise.Config(
            pictures=("coffee",), network=str(whole[0]), size=48, out=str(tmp_path), name="t"
        )
    )
    assert max(smaller["coffee"].shape) == 48


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 66}, "--crop must be a multiple of 4"),
        ({"style": "nowhere.png"}, "there is no file or folder nowhere.png"),
        ({"style_distance": "l2"}, "l2 compares images of one size"),
        ({"content_weight": 0.0, "style_weight": 0.0}, "cannot both be 0"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(pj.InputError, match=message):
        fast_style.run(dataclasses.replace(TINY, **options, out=str(tmp_path)))
    assert not (tmp_path / "fast-style").exists()


def test_what_cannot_be_stylised(whole, tmp_path, picture):
    picture("small.png", size=(20, 60))
    config = stylise.Config(
        pictures=(str(tmp_path / "small.png"),), network=str(whole[0]), out=str(tmp_path)
    )
    with pytest.raises(pj.InputError, match="small has sides below 32 pixels"):
        stylise.run(config)
    with pytest.raises(pj.InputError, match="--network must be the folder of a run of fast-style"):
        stylise.run(dataclasses.replace(config, pictures=("coffee",), network="nowhere"))
