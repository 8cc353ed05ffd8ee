"""Commands, exit codes, and errors of one line that say what to do."""

import json
import subprocess
import sys
import time

import pytest

import perceptual_jax as pj
from experiments.__main__ import COMMANDS


def test_help_lists_every_command(cli):
    outcome = cli("--help")
    assert outcome.code == 0
    assert all(command in outcome.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_documents_its_options(cli, command):
    outcome = cli(command, "--help")
    assert outcome.code == 0
    assert f"perceptual-jax {command}" in outcome.out


def test_help_says_what_presets_change(cli):
    """Of the preset asked for, too: against the default, with long values cut."""
    for preset in ((), ("--preset", "quick")):
        lines = cli("two-afc", "--help", *preset).out.splitlines()
        first = next(line for line in lines if line.startswith("    quick: "))
        assert "distances=('l1', 'l2', 'ssim', 'mmd++', 'alexnet',..." in first
        assert any("per_distortion=20" in line for line in lines)
        assert any(line.startswith("    paper: ") for line in lines)
        assert max(len(line) for line in lines if line.startswith("        ")) <= 80
        assert not any(line.startswith("    default: ") for line in lines)


@pytest.mark.parametrize("command", ["list", "weights"])
def test_examples_are_lines_of_their_own(cli, command):
    lines = cli(command, "--help").out.splitlines()
    assert f"    perceptual-jax {command}" in [line[: 19 + len(command)] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compair"], "did you mean 'compare'?"),
        (["compare", "a.png", "missing.png"], "there is no file or folder missing.png"),
        (["compare", "a.png", "a.png", "--distances", "lpips-alx"], "did you mean 'lpips-alex'?"),
        (["compare", "a.png", "a.png", "--distances", "ssim(preset='wang')"], "wang2004"),
        (["compare", "a.png", "a.png", "--distances", "l1(__import__('os'))"], "literal"),
        (["compare", "a.png", "small.png"], "is 64x64 and"),
        (["compare", "a.png", "a.png", "--csv", "no/such/folder.csv"], "cannot write"),
        (["compare", "a.png", "folder"], "two images or two folders"),
        (["compare", "empty", "empty"], "holds no images"),
        (["compare", "broken.png", "a.png"], "cannot be read as an image"),
        (["image-mean", "--data", "nowhere"], "there is no folder nowhere"),
        (["image-mean", "--data", "folder"], "holds 1 images"),
        (["image-mean", "--steps", "0"], "--steps must be at least 1"),
        (["image-mean", "--shift", "nan"], "--shift must be"),
        (["image-mean", "--seed", "-1"], "--seed must be"),
        (["image-mean", "--start", "split", "--images-per-set", "1"], "at least two images"),
        (["demo", "--distances", "l2", "l2"], "each once"),
        (["demo", "--steps", "0"], "--steps must be"),
        (["compare", "a.png", "x" * 300], "File name too long"),
        (["compare", "a.png", "a.png", "--background", "300", "0", "0"], "0 to 255"),
        (["image-mean", "--preset", "quik"], "did you mean 'quick'?"),
        (["image-mean", "--size", "16", "--distances", "alexnet"], "at least"),
        (["image-mean", "--name", "../x"], "--name must be letters"),
        (["image-mean", "--resume"], "--resume needs the --name"),
        (["image-mean", "--resume", "--name", "never"], "there is no run"),
        (["activations", "--network", "vgg-16"], "did you mean 'vgg16'?"),
        (["activations", "--layers", "relu9"], "must be one of"),
        (["activations", "--layers", "pixels"], "is the image itself"),
        (["activations", "--layers", "relu1_1", "--channels", "64"], "channels 0 to 63"),
        (["activations", "--channels", "1", "1"], "must not repeat"),
        (["activations", "--size", "16"], "--size must be at least"),
        (["activations", "--image", "no.png"], "there is no file no.png"),
        (["activations", "--prediction", "broken.png"], "cannot be read as an image"),
        (["activations", "--data", "nowhere"], "there is no folder nowhere"),
        (["activations", "--distances", "alexnet", "--patch-side", "16"], "--patch-side: alexnet"),
        (["invert", "--network", "alexnit"], "did you mean 'alexnet'?"),
        (["invert", "--layers", "relu9"], "must be one of"),
        (["invert", "--layers", "pixels"], "is the image itself"),
        (["invert", "--weights", "random", "random"], "each once"),
        (["invert", "--size", "32"], "--size must be at least 64"),
        (["invert", "--image", "no.png"], "there is no file no.png"),
        (["glo", "--data", "nowhere"], "there is no folder nowhere"),
        (["glo", "--size", "48"], "power of two"),
        (["glo", "--decay", "2"], "--decay must be"),
        (["glo", "--images", "30", "--batch", "64"], "do not fill a batch of 64"),
        (["glo", "--microbatches", "5"], "--microbatches must divide"),
        (["autoencoder", "--data", "folder"], "both parts need some"),
        (["autoencoder", "--distances", "l2", "l2"], "each once"),
        (["glo", "--distances", "l1 + adversary"], "--distances: nothing is trained against an"),
        (["glo", "--distances", "l1 + 0 * l2"], "--distances: a weight must be a positive number"),
        (["glo", "--warm-up", "-1"], "--warm-up must be"),
        (["compare"], "give two images or two folders"),
        (["compare", "a.png"], "give two images or two folders"),
        (["autoencoder", "--measures", "lpips-alx"], "did you mean 'lpips-alex'?"),
        (["autoencoder", "--width", "0"], "--width must be"),
        (["weights", "get", "vgg-16"], "did you mean 'vgg16'?"),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_leaves_nothing(
    cli, picture, tmp_path, arguments, message
):
    picture("a.png")
    picture("small.png", size=(48, 48))
    picture("folder/one.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    before = sorted(tmp_path.rglob("*"))
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("perceptual-jax: error: ")
    assert message in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_weights_give_the_command_that_gets_them(cli, picture, monkeypatch, tmp_path):
    monkeypatch.setenv(pj.weights.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    outcome = cli("compare", picture("a.png"), picture("b.png", seed=1))
    assert outcome.code == 2
    assert "perceptual-jax weights get alexnet" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_weights_are_got_listed_and_verified(cli, monkeypatch, tmp_path):
    monkeypatch.setenv(pj.weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    assert "vgg16" in cli("weights").out
    assert cli("weights", "get", "alexnet").code == 0
    outcome = cli("weights", "verify", "alexnet", "lpips-alex-v0.1")
    assert outcome.code == 0
    assert "alexnet: sound" in outcome.out
    (tmp_path / "cache" / "weights" / "alexnet.safetensors").write_bytes(b"not weights")
    outcome = cli("weights", "verify")
    assert outcome.code == 2
    assert "perceptual-jax weights get alexnet" in outcome.err


def test_list_names_the_whole_catalogue(cli):
    outcome = cli("list")
    assert outcome.code == 0
    assert all(name in outcome.out.split() for name in pj.names())


def test_list_of_a_name_gives_its_options(cli):
    outcome = cli("list", "vgg16")
    assert outcome.code == 0
    assert "metric='l1'" in outcome.out
    said = " ".join(outcome.out.split())
    assert 'metric "l1" and "l2", means over places and channels' in said
    assert "By default the input and the last convolution" in said
    assert "backbone" not in said
    assert cli("list", "vgg").code == 2


def test_list_says_how_to_get_what_is_not_here(cli, monkeypatch, tmp_path):
    monkeypatch.setenv(pj.weights.CACHE_VARIABLE, str(tmp_path / "elsewhere"))
    said = " ".join(cli("list", "vgg16", "l1").out.split())
    assert "not here: the weights 'vgg16'" in said
    assert "perceptual-jax weights get vgg16" in said
    said = " ".join(cli("list", "vgg16", "alexnet").out.split())
    assert "not here: perceptual-jax weights list" in said
    assert "not here" not in cli("list", "l1").out


@pytest.mark.multiprocess
def test_help_is_immediate():
    """Under a second, as the median of three starts of a new process."""
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "experiments", "--help"], check=True, capture_output=True
        )
        taken.append(time.perf_counter() - begun)
    assert sorted(taken)[1] < 1.0, json.dumps(taken)
