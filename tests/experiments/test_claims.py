"""`perceptual-jax claims`: the measurements, the rules of the verdicts, and the page."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import perceptual_jax as pj
from experiments import claims
from experiments.claims import (
    Config,
    adversarial,
    blur,
    enlarging,
    judged,
    modes,
    prediction,
    run,
    shifts,
    style,
    trained,
)
from experiments.claims.claim import Measured, Setting, verdict_on
from experiments.common.loop import Interrupted
from experiments.common.run_folder import RunFolder


@pytest.fixture
def setting(tmp_path):
    """Two small photographs."""
    return Setting(2, 64, 3, 12, "embedded", 0, RunFolder(tmp_path, "claims"), lambda: False)


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ([True, True], "holds"),
        ([True, False], "holds in part"),
        ([False, False], "does not hold"),
    ],
)
def test_verdicts(parts, wanted):
    assert verdict_on(parts) == wanted


# --- Shifts --------------------------------------------------------------------------------


def test_windows_are_moved_exactly():
    canvas = np.arange(100).reshape(10, 10)
    still = shifts.moved_window(canvas, 6, 0, 0)
    np.testing.assert_array_equal(still, canvas[2:8, 2:8])
    np.testing.assert_array_equal(shifts.moved_window(canvas, 6, -2, 1), canvas[0:6, 3:9])


@pytest.mark.parametrize(
    ("relative", "wanted"),
    [([0.1, 0.2, 0.3, 0.4], None), ([0.6, 0.9, 1.0, 1.0], 5 / 6), ([0.1, 0.3, 0.7, 0.9], 3.0)],
)
def test_the_shift_that_counts_half_as_much_as_another_picture(relative, wanted):
    found = shifts.tolerated([1, 2, 4, 8], relative)
    assert found == (None if wanted is None else pytest.approx(wanted))


def test_the_verdict_on_shifts():
    losses = {name: [0.5, 0.6] for name in shifts.PIXELS}
    numbers = {"shifts": [1, 2], "relative": losses}
    for feature, wanted in (
        ([0.1, 0.2], "holds"),
        ([0.1, 0.7], "holds in part"),
        ([0.8, 0.7], "does not hold"),
    ):
        losses |= dict.fromkeys(shifts.FEATURES, feature)
        assert shifts.verdict(numbers) == wanted


# --- Style ---------------------------------------------------------------------------------


def test_the_verdict_on_style():
    one, other = {}, {}
    numbers = {"left": {"one": one, "other": other}}
    for left in (one, other):
        left |= {"relu1_2": [0.8, 0.9], "relu2_2": [0.7, 0.8], "relu5_3": [0.9, 0.9]}
        left |= {"relu3_3": [0.5, 0.6], "relu4_3": [0.4, 0.9]}
    assert style.verdict(numbers) == "holds"
    one["relu4_3"] = [0.7, 0.9]
    assert style.verdict(numbers) == "holds in part"
    other["relu3_3"] = [0.9, 0.9]
    assert style.verdict(numbers) == "does not hold"


@pytest.mark.slow
def test_pictures_that_are_drawn_come_nearer_to_the_painting(weights_store, setting, monkeypatch):
    """And what was drawn is found again when a run goes on."""
    monkeypatch.setattr(style, "_LAYERS", ("relu1_2", "relu2_2"))
    monkeypatch.setattr(style, "STYLES", ("strokes",))
    numbers, pictures = style.measure(setting._replace(steps=8))
    for judge in numbers["left"].values():
        assert list(judge) == ["relu1_2", "relu2_2"]
        assert all(0 < value < 1 for values in judge.values() for value in values)
    (row,) = pictures.values()
    assert [caption for _, caption in row] == ["the style", "relu1_2", "relu2_2"]
    assert style.measure(setting._replace(steps=8)).numbers == numbers


# --- Adversarial changes -------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 10])
def test_an_attack_stays_in_reach_and_does_more_than_chance(steps):
    images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
    signs = jax.random.rademacher(jax.random.key(1), images.shape, images.dtype)
    distance = pj.make("alexnet-random(layers=('conv1', 'conv2'))")
    params = distance.init(jax.random.key(2))
    slope = jax.jit(jax.grad(lambda x: distance(params, images, x).sum()))
    reach = 4 / 255
    found = adversarial.attack(slope, images, signs, reach, steps)
    assert jnp.abs(found - images).max() <= reach + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    by_chance = jnp.clip(images + reach * signs, 0, 1)
    assert (distance(params, images, found) > 1.2 * distance(params, images, by_chance)).all()


def test_l2_cannot_be_attacked(setting, monkeypatch):
    """Every number at the edge of its reach is all that an adversary can do, or chance."""
    monkeypatch.setattr(adversarial, "LOSSES", ("l2",))
    numbers = adversarial.measure(setting).numbers
    relative = numbers["relative"]["l2"]
    np.testing.assert_allclose(relative["ten steps"], relative["by chance"], rtol=0.01)
    # Twice the reach, four times the square; a little less where numbers stop at 0 or 1.
    np.testing.assert_allclose(np.diff(np.log2(relative["by chance"])), 2, atol=0.2)


def test_the_verdict_on_adversarial_changes():
    for values, wanted in (
        ([0.05, 0.09, 2, 9], "holds"),
        ([0.05, 0.11, 2, 9], "does not hold"),
    ):
        relative = {name: {"ten steps": values} for name in adversarial.NETWORKS}
        numbers = {"levels": [1, 2, 4, 8], "relative": relative}
        assert adversarial.verdict(numbers) == wanted
    relative["dists"] = {"ten steps": [0, 0, 0, 0]}
    assert adversarial.verdict(numbers) == "holds in part"


# --- Agreement with people -----------------------------------------------------------------


def test_every_pair_is_of_one_network_and_differs_in_one_thing():
    for pairs in (judged.RELU_PAIRS, judged.NORM_PAIRS):
        for better, other in pairs.values():
            assert better != other
            assert better.split("(")[0] == other.split("(")[0]
            assert (
                better.replace("conv", "relu") == other
                or better.replace("metric='l1'", "metric='l2'") == other
            )


def test_choices_stand_in_where_nobody_was_asked(setting):
    pairs = {"a": ("patch-rbf", "l2"), "b": ("l2", "patch-rbf")}
    numbers = judged.measure(setting, pairs=pairs).numbers
    assert numbers["human"] is False
    a, b = numbers["pairs"]["a"], numbers["pairs"]["b"]
    assert a["scores"] == b["scores"][::-1]
    # All damage is equally far in l2, which cannot choose.
    assert a["scores"][1] == pytest.approx(0.5)
    assert a["difference"][0] == pytest.approx(a["scores"][0] - 0.5) == -b["difference"][0]


def test_people_are_asked_once_for_all_claims(setting, monkeypatch, weights_store):
    """The second claim finds the scores that the first one left."""
    monkeypatch.setattr(judged, "ALL", ("l1", "l2", "patch-rbf"))
    given = setting._replace(judgements="manifest.csv")
    _manifest(setting.folder.path, monkeypatch)
    one = judged.measure(given, pairs={"a": ("l1", "l2")}).numbers
    assert one["human"] is True
    low, high = one["pairs"]["a"]["difference"][1:]
    assert low <= one["pairs"]["a"]["difference"][0] <= high
    (run_folder,) = (setting.folder.path / "two-afc").iterdir()
    before = (run_folder / "config.json").stat().st_mtime_ns
    other = judged.measure(given, pairs={"b": ("patch-rbf", "l2")}).numbers
    assert other["pairs"]["b"]["scores"][1] == one["pairs"]["a"]["scores"][1]
    assert (run_folder / "config.json").stat().st_mtime_ns == before


def _manifest(folder, monkeypatch):
    rng = np.random.default_rng(0)
    lines = ["ref,p0,p1,judge"]
    for i in range(8):
        names = [f"{i}-{part}.png" for part in ("ref", "p0", "p1")]
        for name in names:
            pj.images.write(folder / name, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        lines.append(",".join([*names, str(i % 2)]))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(folder)


def test_where_nobody_was_asked_nothing_is_decided():
    pairs = {name: {"difference": [0.5] * 3} for name in judged.UNTRAINED_PAIRS}
    behind = {**pairs, "l2": {"difference": [-0.5] * 3}}
    for verdict, given in ((judged.better, pairs), (judged.as_good, behind)):
        assert verdict({"human": False, "pairs": given}) == "undecided"
        assert verdict({"human": True, "pairs": given}) == "holds"


def test_the_verdict_on_agreement():
    def verdict(*lows):
        pairs = {str(i): {"difference": [0.1, low, 0.2]} for i, low in enumerate(lows)}
        return judged.better({"human": True, "pairs": pairs})

    assert verdict(0.01, 0.02) == "holds"
    assert verdict(0.01, -0.02) == "holds in part"
    assert verdict(-0.01, -0.02) == "does not hold"


def test_the_verdict_on_untrained_weights():
    def verdict(l2, zero_mean, mmd):
        behind = {"l2": l2, "vgg16-random-zero-mean": zero_mean, "mmd++": mmd}
        pairs = {name: {"difference": [value] * 3} for name, value in behind.items()}
        return judged.as_good({"human": True, "pairs": pairs})

    assert verdict(-0.1, -0.01, 0.0) == "holds"
    assert verdict(-0.1, -0.05, -0.05) == "holds in part"
    assert verdict(-0.1, -0.2, -0.2) == "does not hold"


# --- Blur ----------------------------------------------------------------------------------


def test_l2_answers_with_the_mean_and_a_bounded_kernel_with_one_of_the_answers(
    weights_store, setting, monkeypatch
):
    monkeypatch.setattr(blur, "_PERCEPTUAL", ())
    measured = blur.measure(setting)
    numbers = measured.numbers
    assert blur.best_answer(numbers, "l2") == pytest.approx(0.5)
    nearest = min(abs(blur.best_answer(numbers, "patch-rbf") - x) for x in (0.25, 0.75))
    assert nearest < 0.02
    assert blur.verdict(numbers) == "holds"
    assert {len(row) for row in measured.pictures.values()} == {4}
    # A double exposure is neither of the answers.
    assert min(numbers["to_nearer"]["l2"]) > 0.02


@pytest.mark.parametrize(
    ("perceptual", "wanted"), [((0.1, 0.1), "holds"), ((0.1, 0.3), "holds in part")]
)
def test_the_verdict_on_blur(perceptual, wanted):
    answers = np.linspace(0, 1, 101)
    numbers = {
        "levels": [0.25, 0.75],
        "answers": answers.tolist(),
        "toy": {"l2": ((answers - 0.5) ** 2).tolist()},
        "to_nearer": {"l1": [0.2], "l2": [0.2], "vgg16": [perceptual[0]]}
        | {"lpips-vgg": [perceptual[1]]},
    }
    assert blur.verdict(numbers) == wanted


# --- Training ------------------------------------------------------------------------------


def test_a_small_network_is_trained_and_watched(weights_store, setting, monkeypatch):
    """Two losses from the same start: what l2 lowers is the square error."""
    with jax.numpy_dtype_promotion("standard"):
        losses = {"l2": pj.make("l2"), "swd": pj.make("swd(patch_size=3, num_projections=8)")}
        measured = enlarging.measure(setting, claim="test", losses=losses)
    for each in measured.numbers["under"].values():
        assert each["steps"] == [2, 4, 6, 8, 10, 12]
        assert all(len(each[m]) == 6 for m in ("psnr", "lpips-alex", "sharpness"))
        assert each["seconds"] > 0
    (row,) = measured.pictures.values()
    assert [caption for _, caption in row] == ["original", *losses]
    header, rows = trained.table(measured.numbers, measures=("psnr",))
    assert header == ["trained under", "psnr", "ms a step"]
    assert [cells[0] for cells in rows] == list(losses)


def test_the_verdict_on_convergence():
    """At equal steps a loss may be ahead, and in equal time behind, since its steps take longer."""

    def under(lpips, seconds):
        return {"steps": [1, 2, 3], "lpips-alex": lpips, "seconds": seconds}

    pixels = {name: under([0.5, 0.4, 0.3], 1.0) for name in ("l1", "l2")}

    def verdict(lpips, seconds):
        perceptual = {name: under(lpips, seconds) for name in ("vgg16", "lpips-vgg")}
        return enlarging.converges({"under": pixels | perceptual})

    assert verdict([0.4, 0.3, 0.2], 1.0) == "holds"
    assert verdict([0.45, 0.35, 0.25], 3.0) == "holds in part"
    assert verdict([0.6, 0.5, 0.4], 3.0) == "does not hold"
    assert enlarging.at_time(under([0.5, 0.3, 0.1], 2.0), 3.0) == pytest.approx(0.4)


def test_the_verdict_on_mixtures():
    def verdict(psnr):
        ends = {"ms-ssim": (20, 0.3), "l1": (30, 0.4), "lpips-vgg": (24, 0.1)}
        ends["all three"] = (psnr, 0.2)
        under = {
            name: {"psnr": [psnr], "lpips-alex": [far], "ms-ssim(levels=3)": [far]}
            for name, (psnr, far) in ends.items()
        }
        return enlarging.mixes({"under": under})

    assert verdict(27) == "holds"
    assert verdict(22) == "holds in part"


def test_the_verdict_on_layers():
    def verdict(psnr):
        under = {
            name: {"psnr": [value], "lpips-alex": [0.1 * place]}
            for place, (name, value) in enumerate(zip(enlarging._DEPTHS, psnr, strict=True))
        }
        return enlarging.shallow({"under": under})

    assert verdict([30, 29, 28, 27, 26]) == "holds"
    assert verdict([30, 25, 28, 27, 26]) == "holds in part"


# --- Features added to pixels ---------------------------------------------------------------


def test_sums_in_which_features_are_so_many_times_as_large(setting, weights_store):
    wanted = np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32)
    losses = prediction._losses(setting, wanted)
    grey = np.full_like(wanted, 0.5)
    shares = []
    for name, loss in losses.items():
        if " + " in name:
            params = loss.init(jax.random.key(0))
            terms = {term: float(v.mean()) for term, v in loss.terms(params, grey, wanted).items()}
            shares.append(terms["vgg16"] / terms["l2"])
    assert shares == pytest.approx(prediction._SHARES, rel=0.05)
    assert next(iter(losses)) == "l2"
    assert list(losses)[-1] == "vgg16"


def test_the_verdict_on_features_added_to_pixels():
    def verdict(lpips, psnr):
        under = {
            "l2": {"lpips-alex": [0.5, 0.4], "psnr": [18, 20]},
            "l2 + 1 * vgg16": {"lpips-alex": lpips, "psnr": [18, psnr]},
            "vgg16": {"lpips-alex": [0.1, 0.1], "psnr": [18, 25]},
        }
        return prediction.verdict({"under": under})

    assert verdict([0.45, 0.3], 19.9) == "holds"
    assert verdict([0.45, 0.3], 19.5) == "holds in part"
    assert verdict([0.55, 0.3], 21) == "does not hold"


# --- Several right answers -----------------------------------------------------------------


def test_answers_are_judged_by_all_that_is_right_or_both_ways():
    values = jnp.array([[1.0, 2.0, 6.0], [5.0, 4.0, 3.0]])
    np.testing.assert_allclose(modes._all_alike(values), [3, 4])
    # The nearest answers are 1 and 3; the nearest right ones of the three 1, 2 and 3.
    np.testing.assert_allclose(modes.both_ways(values), [1 + 2, 3 + 2])
    rng = np.random.default_rng(0)
    made = rng.random((3, 8, 8, 3), dtype=np.float32)
    wanted = rng.random((2, 8, 8, 3), dtype=np.float32)
    distance = pj.make("l2")
    by_hand = [[float(distance({}, m[None], w[None])[0]) for m in made] for w in wanted]
    found = modes.Over(distance, modes.both_ways, "both")({}, made, wanted)
    np.testing.assert_allclose(found, modes.both_ways(jnp.array(by_hand)), rtol=1e-5)


def test_shapes_all_differ():
    shapes = modes.right_answers()
    assert shapes.shape == (6, 64, 64, 3)
    assert len(np.unique(shapes.reshape(6, -1), axis=0)) == 6


def test_l2_gives_the_mean_and_where_the_nearest_is_asked_several(
    weights_store, setting, monkeypatch
):
    monkeypatch.setattr(modes, "_LOSSES", ("l2",))
    with jax.numpy_dtype_promotion("standard"):
        measured = modes.measure(setting._replace(training_steps=120))
    shown = {row: np.stack([image for image, _ in images])
             for row, images in measured.pictures.items()}  # fmt: skip
    mean = shown["right answers"].mean(axis=0)
    np.testing.assert_allclose(shown["l2"], np.broadcast_to(mean, shown["l2"].shape), atol=0.02)
    under = measured.numbers["under"]
    assert under["l2"]["given"][-1] == 0
    assert under["l2, nearest"]["given"][-1] >= 3


def test_the_verdict_on_several_right_answers():
    def verdict(far, given):
        ends = {"l1": (0.3, 0), "l2": (0.4, 0), "vgg16": (far, given), "lpips-vgg": (far, given)}
        under = {name: {"to nearest": [f], "given": [g]} for name, (f, g) in ends.items()}
        return modes.verdict({"under": under, "answers": 6})

    assert verdict(0.2, 4) == "holds"
    assert verdict(0.2, 1) == "holds in part"
    assert verdict(0.3, 0) == "does not hold"


# --- The run -------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch):
    """A claim that counts how often it is measured, and one that is stopped at first."""
    counts = {"one": 0, "two": 0}
    picture = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)

    def measure_of(name, stops):
        def measure(setting):
            counts[name] += 1
            if stops and counts[name] == 1:
                raise Interrupted("of the inside")
            numbers = {"shifts": [1], "relative": {"l2": [0.25]}}
            return Measured(numbers, {"row": [(picture, "a caption")]})

        return measure

    made = {
        name: shifts.CLAIM._replace(
            says=f"claim {name}",
            measure=measure_of(name, stops),
            verdict=lambda numbers: "holds in part",
        )
        for name, stops in (("one", False), ("two", True))
    }
    monkeypatch.setattr(claims, "CLAIMS", made)
    return counts


def test_a_stopped_run_keeps_what_was_measured(weights_store, tmp_path, fake):
    config = Config(claims=("one", "two"), out=str(tmp_path), name="a")
    with pytest.raises(Interrupted, match="--name a --resume"):
        run(config)
    found = run(Config(out=str(tmp_path), name="a", resume=True))
    assert fake == {"one": 1, "two": 2}
    assert found == {"one": "holds in part", "two": "holds in part"}
    folder = tmp_path / "claims" / "a"
    results = json.loads((folder / "results.json").read_text())
    assert results["one"] == {
        "says": "claim one",
        "verdict": "holds in part",
        "shifts": [1],
        "relative": {"l2": [0.25]},
    }
    page = (folder / "report.html").read_text()
    assert "claim two" in page
    assert "a caption" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"claims": ()}, "--claims must name one or more"),
        ({"claims": ("blur", "blur")}, "each once"),
        ({"claims": ("blurr",)}, "did you mean 'blur'"),
        ({"pictures": 1}, "--pictures must be at least 2"),
        ({"size": 8}, "--size must be at least"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, options, message):
    with pytest.raises(pj.InputError, match=message):
        run(dataclasses.replace(Config(out=str(tmp_path)), **options))
    assert not (tmp_path / "claims").exists()


@pytest.mark.slow
def test_every_claim_is_measured(weights_store, tmp_path):
    """And pixel losses do blur, and do not see that a picture is only moved."""
    small = {"size": 48, "steps": 10}
    found = run(dataclasses.replace(claims.PRESETS["quick"], **small, out=str(tmp_path), name="a"))
    assert set(found) == set(claims.PRESETS["quick"].claims)
    assert found["shifts"] != "does not hold"
    page = (tmp_path / "claims" / "a" / "report.html").read_text()
    for name in found:
        assert claims.CLAIMS[name].how[:40] in page
