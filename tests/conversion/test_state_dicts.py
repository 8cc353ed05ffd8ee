"""Other people's state dicts: found, checked, converted; and the way back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch_networks import Network, hollow_state_dict, network, saved

import conversion
from conversion import layouts
from conversion.state_dicts import open_file
from conversion.tensors import Tensor
from perceptual_jax import InputError, weights
from perceptual_jax.weights import WeightsError

NAME = "squeezenet1_1"
SETS = (NAME, f"{NAME}-classifier")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """SqueezeNet's, with its classifier."""
    return dict(network(NAME, with_classifier=True).state_dict())


@pytest.fixture(scope="module")
def reference(state, tmp_path_factory) -> dict[str, np.ndarray]:
    """What its features must become."""
    return dict(opened(state, tmp_path_factory.mktemp("reference") / "net.pth"))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path


def opened(state, path: Path, name: str = NAME, *, key=None) -> dict[str, np.ndarray]:
    """The tensors as they come from a file of PyTorch's."""
    return dict(open_file(saved(state, path), name, key=key))


def same(ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> None:
    assert list(ours) == list(reference)
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor, reference[name], strict=True)


def refused(state, path: Path, message: str, name: str = NAME, *, key=None) -> None:
    """One line, from whoever looks at the file, and nothing is written."""
    out = path.with_name("out.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        conversion.convert(saved(state, path), name, key=key, out=out)
    assert "\n" not in str(caught.value)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def prefixed(state, prefix: str):
    return {prefix + name: tensor for name, tensor in state.items()}


# --- Layout ----------------------------------------------------------------------------------


def test_axes_are_those_of_ours(state, reference):
    """OIHW becomes HWIO; the names are ours, in our order."""
    assert list(reference) == list(weights.entry(NAME).shapes)
    for ours, theirs in (
        ("conv1", "features.0"),
        ("fire2_expand3x3", "features.3.expand3x3"),
        ("fire9_squeeze", "features.12.squeeze"),
    ):
        weight = state[f"{theirs}.weight"].numpy()
        np.testing.assert_array_equal(
            reference[f"{ours}.kernel"], weight.transpose(2, 3, 1, 0), strict=True
        )
        np.testing.assert_array_equal(reference[f"{ours}.bias"], state[f"{theirs}.bias"].numpy())


def test_fully_connected_layers_are_convolutions_that_see_everything():
    """Inputs come in the order channel, row, column."""
    shape = (2, 3, 4, 5)
    weight = np.random.default_rng(0).standard_normal((5, 4, 2, 3)).astype(np.float32)
    kernels = [
        layouts.kernel("fc", Tensor.of(array), shape) for array in (weight, weight.reshape(5, -1))
    ]
    for kernel in kernels:
        np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0), strict=True)
        np.testing.assert_array_equal(layouts.theirs(kernel, fully_connected=False), weight)
        np.testing.assert_array_equal(
            layouts.theirs(kernel, fully_connected=True), weight.reshape(5, -1)
        )


def test_a_kernel_is_read_in_blocks(monkeypatch):
    """The last of which is shorter."""
    shape = (3, 3, 4, 11)
    weight = np.random.default_rng(0).standard_normal((11, 4, 3, 3)).astype(np.float32)
    asked = []

    def rows(start, stop):
        asked.append((start, stop))
        return weight[start:stop]

    monkeypatch.setattr(layouts, "_BLOCK", 4 * 4 * weight[0].size)
    kernel = layouts.kernel("conv", Tensor(weight.shape, weight.dtype, rows), shape)
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0), strict=True)
    assert asked == [(0, 4), (4, 8), (8, 11)]


@pytest.mark.parametrize("with_bias", [True, False])
def test_batch_normalisation_folds_into_the_convolution(with_bias):
    """Equal to PyTorch's two layers in float64, to the rounding of the folded float32."""
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(4, 8, 3, bias=with_bias).double()
    norm = torch.nn.BatchNorm2d(8).double().eval()
    with torch.no_grad():
        norm.weight.uniform_(-1, 1)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(1e-6, 2)  # Epsilon counts in the smallest.
        norm.running_var[0] = 0
        images = torch.randn(2, 4, 9, 9, dtype=torch.float64)
        wanted = norm(convolution(images)).numpy()
        stored = dict(norm.named_parameters()) | dict(norm.named_buffers())
        kernel, bias = layouts.folded(
            convolution.weight.numpy().transpose(2, 3, 1, 0),
            convolution.bias.numpy() if with_bias else None,
            lambda part: stored[part].numpy(),
        )
        assert kernel.dtype == bias.dtype == np.float32
        found = torch.nn.functional.conv2d(
            images,
            torch.from_numpy(kernel.transpose(3, 2, 0, 1)).double(),
            torch.from_numpy(bias).double(),
        ).numpy()
    for channel in range(8):
        scale = np.abs(wanted[:, channel]).max()
        np.testing.assert_allclose(found[:, channel], wanted[:, channel], atol=1e-6 * scale)


def test_a_convolution_before_a_normalisation_needs_no_bias(tmp_path):
    state = dict(network("vgg11_bn").state_dict())
    with_bias = open_file(saved(state, tmp_path / "a.pth"), "vgg11_bn")
    bias = state.pop("features.0.bias")
    without = open_file(saved(state, tmp_path / "b.pth"), "vgg11_bn")
    scale = state["features.1.weight"] / torch.sqrt(state["features.1.running_var"] + 1e-5)
    difference = with_bias["conv1_1.bias"] - without["conv1_1.bias"]
    np.testing.assert_allclose(difference, (bias * scale).numpy(), atol=1e-6)
    np.testing.assert_array_equal(with_bias["conv1_1.kernel"], without["conv1_1.kernel"])


# --- Where they are in a file ----------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["module.", "model.net.", "_orig_mod.module."])
def test_prefixes(prefix, state, reference, tmp_path):
    same(opened(prefixed(state, prefix), tmp_path / "net.pth"), reference)


@pytest.mark.parametrize("place", [["state_dict"], ["model"], ["ema", "model"]])
def test_checkpoints(place, state, reference, tmp_path):
    tree = {"epoch": 3, "optimizer": {"lr": 0.1, "state": {0: torch.zeros(3)}}}
    inner = tree
    for step in place[:-1]:
        inner = inner.setdefault(step, {})
    inner[place[-1]] = prefixed(state, "module.")
    same(opened(tree, tmp_path / "net.pth"), reference)


def test_one_of_two_is_chosen_by_its_key(state, reference, tmp_path):
    other = {name: tensor + 1 for name, tensor in state.items()}
    tree = {"model": other, "ema": {"model": prefixed(state, "module.")}}
    path = tmp_path / "net.pth"
    refused(tree, path, r"more than once: choose with --key from 'model', 'ema/model/module\.'")
    for key in ("ema/model", "ema/model/module", "ema/model/module."):
        same(opened(tree, path, key=key), reference)
    assert opened(tree, path, key="model")["conv1.bias"][0] == reference["conv1.bias"][0] + 1
    refused(tree, path, "does not hold .* at 'emma'", key="emma")


def test_one_of_two_prefixes_is_chosen_by_its_key(state, reference, tmp_path):
    other = {name: tensor + 1 for name, tensor in state.items()}
    tree = {**prefixed(other, "student."), **prefixed(state, "teacher.")}
    refused(tree, tmp_path / "net.pth", "choose with --key from 'student.', 'teacher.'")
    same(opened(tree, tmp_path / "net.pth", key="teacher"), reference)


def test_a_key_serves_the_classifier_too(state, reference, tmp_path):
    tree = {"a": {"net": state}, "b": {"net": dict(state)}}
    paths = conversion.convert(
        saved(tree, tmp_path / "net.pth"),
        NAME,
        with_classifier=True,
        key="b/net",
        out=tmp_path / "ours.safetensors",
    )
    names = ["ours.safetensors", "ours-classifier.safetensors"]
    assert paths == tuple(tmp_path / name for name in names)
    same(flat(weights.read_file(paths[0], NAME)[0]), reference)
    assert list(weights.read_file(paths[1], SETS[1])[0]) == ["conv10"]


def flat(params) -> dict[str, np.ndarray]:
    return {f"{a}.{b}": tensor for a, leaves in params.items() for b, tensor in leaves.items()}


def test_one_dict_in_many_places_is_one(state, reference, tmp_path):
    """Five dicts of sixty keys that share one child: 60^5 places, a few kilobytes."""
    tree = state
    for _ in range(5):
        tree = dict.fromkeys((f"key{i}" for i in range(60)), tree)
    same(opened(tree, tmp_path / "net.pth"), reference)


# --- What is not taken -----------------------------------------------------------------------


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


BAD = {
    "no bias": (
        lambda s: without(s, "features.0.bias"),
        r"has no tensor features\.0\.bias for 'squeezenet1_1'",
    ),
    "no bias after a prefix": (
        lambda s: prefixed(without(s, "features.0.bias"), "module."),
        r"has no tensor module\.features\.0\.bias",
    ),
    "no weight": (
        lambda s: without(s, "features.3.squeeze.weight"),
        r"does not hold the weights 'squeezenet1_1'",
    ),
    "shape": (
        lambda s: {**s, "features.0.weight": torch.zeros(64, 3, 3, 4)},
        r"features\.0\.weight has the shape \[64, 3, 3, 4\], wanted \[64, 3, 3, 3\]",
    ),
    "shape of a bias": (
        lambda s: {**s, "features.0.bias": torch.zeros(64, 1)},
        r"features\.0\.bias has the shape \[64, 1\], wanted \[64\]",
    ),
    "scalar": (
        lambda s: {**s, "features.0.bias": torch.tensor(0.0)},
        r"features\.0\.bias has the shape \[\], wanted \[64\]",
    ),
    "integers": (
        lambda s: {**s, "features.0.bias": torch.zeros(64, dtype=torch.int64)},
        r"features\.0\.bias is not of floats \(int64\)",
    ),
    "truth": (
        lambda s: {**s, "features.0.bias": torch.zeros(64, dtype=torch.bool)},
        r"features\.0\.bias is not of floats \(bool\)",
    ),
    "not a number": (
        lambda s: {**s, "features.0.bias": torch.full((64,), float("nan"))},
        r"conv1\.bias holds values that are not finite",
    ),
    "infinite": (
        lambda s: {**s, "features.0.bias": torch.full((64,), float("-inf"))},
        r"conv1\.bias holds values that are not finite",
    ),
    "too large for float32": (
        lambda s: {**s, "features.0.bias": torch.full((64,), 1e300, dtype=torch.float64)},
        r"conv1\.bias holds values that are not finite",
    ),
    "more": (
        lambda s: {**s, "features.13.squeeze.weight": torch.zeros(1)},
        r"holds more than the weights 'squeezenet1_1'.*features\.13\.squeeze\.weight",
    ),
    "a list": (lambda s: list(s.values()), r"it holds no tensors by name; a state dict is wanted"),
    "empty": (lambda s: {}, r"it holds no tensors by name"),
    "another": (lambda s: {"a.weight": torch.zeros(1)}, r"its tensors are 'a\.weight'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_state_dicts(bad, state, tmp_path):
    change, message = BAD[bad]
    refused(change(state), tmp_path / "net.pth", message)


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("vgg19", "vgg16"),
        ("vgg16", "vgg19"),
        ("vgg16", "vgg11"),
        ("vgg13", "vgg11"),
        ("vgg16_bn", "vgg16"),
        ("vgg16", "vgg16_bn"),
        ("vgg11_bn", "vgg13_bn"),
        ("squeezenet1_0", "squeezenet1_1"),
        ("alexnet", "vgg11"),
    ],
)
def test_another_network_is_called_by_its_name(theirs, name, tmp_path):
    state = hollow_state_dict(theirs)
    refused(state, tmp_path / "net.pth", f"'{name}': it holds those of {theirs}$", name)


def test_a_classifier_of_other_classes(state, tmp_path):
    other = {**state, "classifier.1.weight": torch.zeros(10, 512, 1, 1)}
    message = r"classifier\.1\.weight has the shape \[10, 512, 1, 1\], wanted \[1000, 512, 1, 1\]"
    refused(other, tmp_path / "net.pth", message, SETS[1])


def test_a_network_without_its_classifier(state, tmp_path):
    file = saved(
        {name: tensor for name, tensor in state.items() if name.startswith("features")},
        tmp_path / "net.pth",
    )
    out = tmp_path / "ours.safetensors"
    with pytest.raises(WeightsError, match="does not hold the weights 'squeezenet1_1-classifier'"):
        conversion.convert(file, NAME, with_classifier=True, out=out)
    assert not out.exists()


@pytest.mark.parametrize("data", [b"", b"PNG", b"\x89PNG\r\n\x1a\n" + bytes(99), b"PK\x03\x04"])
def test_files_of_other_kinds(data, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"net\.pth") as caught:
        open_file(path, NAME)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"there is no file .*net\.pth"):
        open_file(tmp_path / "net.pth", NAME)


# --- Kinds of numbers and files --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floats(dtype, kind, state, tmp_path):
    """They become float32, exactly where it holds them."""
    cast = {name: tensor.to(dtype) for name, tensor in state.items()}
    path = tmp_path / f"net.{kind}"
    if kind == "pth":
        saved(cast, path)
    else:
        safetensors.torch.save_file(cast, path)
    wanted = {name: tensor.to(torch.float32) for name, tensor in cast.items()}
    same(dict(open_file(path, NAME)), opened(wanted, tmp_path / "wanted.pth"))


def test_safetensors(state, reference, tmp_path):
    safetensors.torch.save_file(prefixed(state, "module."), tmp_path / "net.safetensors")
    same(dict(open_file(tmp_path / "net.safetensors", NAME)), reference)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:100]])
def test_damaged_safetensors(damage, state, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(damage(safetensors.torch.save(state)))
    with pytest.raises(WeightsError, match=r"net\.safetensors cannot be read") as caught:
        open_file(path, NAME)
    assert "\n" not in str(caught.value)


def timm(state, inputs: tuple[int, int, int] = (512, 7, 7)) -> dict[str, torch.Tensor]:
    """A VGG's state dict under timm's names: what is not the last layer is a convolution."""
    places = {
        "classifier.0": ("pre_logits.fc1", inputs),
        "classifier.3": ("pre_logits.fc2", (-1, 1, 1)),
        "classifier.6": ("head.fc", (-1,)),
    }
    renamed = {}
    for name, tensor in state.items():
        module, leaf = name.rsplit(".", 1)
        theirs, shape = places.get(module, (module, tensor.shape[1:]))
        shape = shape if leaf == "weight" else ()
        renamed[f"{theirs}.{leaf}"] = tensor.reshape(len(tensor), *shape)
    return renamed


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_timms_classifier(kind, tmp_path, monkeypatch):
    """A small one; that of the true size is in the slow test below."""
    shapes = {
        "fc6.kernel": (2, 3, 4, 5),
        "fc6.bias": (5,),
        "fc7.kernel": (1, 1, 5, 6),
        "fc7.bias": (6,),
        "fc8.kernel": (1, 1, 6, 7),
        "fc8.bias": (7,),
    }
    name = "vgg11-classifier"
    small = {**weights.manifest(), name: weights.entry(name)._replace(shapes=shapes)}
    monkeypatch.setattr(weights, "manifest", lambda: small)
    state = {}
    for place, inputs, outputs in ((0, 24, 5), (3, 5, 6), (6, 6, 7)):
        state[f"classifier.{place}.weight"] = torch.randn(outputs, inputs)
        state[f"classifier.{place}.bias"] = torch.randn(outputs)
    theirs = opened(state, tmp_path / "theirs.pth", name)
    renamed = timm(state, (4, 2, 3))
    assert renamed["pre_logits.fc1.weight"].shape == (5, 4, 2, 3)
    assert renamed["pre_logits.fc2.weight"].shape == (6, 5, 1, 1)
    assert renamed["head.fc.weight"].shape == (7, 6)
    path = tmp_path / f"timm.{kind}"
    if kind == "pth":
        saved(renamed, path)
    else:
        safetensors.torch.save_file(renamed, path)
    same(dict(open_file(path, name)), theirs)
    weight = state["classifier.0.weight"].numpy().reshape(5, 4, 2, 3)
    np.testing.assert_array_equal(theirs["fc6.kernel"], weight.transpose(2, 3, 1, 0))


def test_safetensors_of_timms_names(tmp_path):
    """The convolutions; timm gives them torchvision's names."""
    state = dict(network("vgg11").state_dict())
    timms = {**state, "head.fc.weight": torch.zeros(10, 4096), "head.fc.bias": torch.zeros(10)}
    safetensors.torch.save_file(timms, tmp_path / "timm.safetensors")
    same(
        dict(open_file(tmp_path / "timm.safetensors", "vgg11")),
        opened(state, tmp_path / "net.pth", "vgg11"),
    )


# --- LPIPS and DISTS -------------------------------------------------------------------------

HEADS = {
    "alex": (64, 192, 384, 256, 256),
    "vgg": (64, 128, 256, 512, 512),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


def heads(net: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"lin{index}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for index, channels in enumerate(HEADS[net])
    }


@pytest.mark.parametrize("version", ["0.0", "0.1"])
@pytest.mark.parametrize("net", HEADS)
@pytest.mark.parametrize("whole", [False, True])
def test_heads_of_lpips(net, version, whole, tmp_path):
    """Alone, or in the state dict of a whole LPIPS, which names them twice."""
    state = heads(net)
    if whole:
        again = {name.replace("lin", "lins.", 1): tensor for name, tensor in state.items()}
        slices = {
            "net.slice1.0.weight": torch.zeros(64, 3, 3, 3),
            "scaling_layer.shift": torch.zeros(1, 3, 1, 1),
        }
        state = {**slices, **state, **again}
    ours = opened(state, tmp_path / "lpips.pth", f"lpips-{net}-v{version}")
    layers = weights.entry(f"lpips-{net}-v{version}").shapes
    assert list(ours) == list(layers)
    for index, tensor in enumerate(ours.values()):
        wanted = state[f"lin{index}.model.1.weight"].numpy().reshape(1, 1, -1, 1)
        np.testing.assert_array_equal(tensor, wanted, strict=True)


def test_heads_of_another_net(tmp_path):
    refused(
        heads("alex"), tmp_path / "a.pth", "lin1.model.1.weight has the shape", "lpips-vgg-v0.1"
    )
    refused(heads("vgg"), tmp_path / "a.pth", "it holds those of lpips-alex", "lpips-squeeze-v0.1")
    refused(
        heads("squeeze"), tmp_path / "a.pth", "lin3.model.1.weight has the shape", "lpips-vgg-v0.1"
    )


@pytest.mark.parametrize("whole", [False, True])
def test_dists(whole, tmp_path):
    """alpha and beta hold the channels of the image and of five layers, one after the other."""
    channels = (3, 64, 128, 256, 512, 512)
    generator = torch.Generator().manual_seed(0)
    state = {
        leaf: torch.rand(1, sum(channels), 1, 1, generator=generator) for leaf in ("alpha", "beta")
    }
    file = {**state, "mean": torch.zeros(1, 3, 1, 1), "stage1.0.weight": torch.zeros(64, 3, 3, 3)}
    ours = opened(file if whole else state, tmp_path / "dists.pth", "dists")
    layers = ["pixels", "relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    for leaf in ("alpha", "beta"):
        parts = [ours[f"{layer}.{leaf}"].ravel() for layer in layers]
        assert tuple(map(len, parts)) == channels
        np.testing.assert_array_equal(np.concatenate(parts), state[leaf].numpy().ravel())


def test_dists_of_another_shape(tmp_path):
    state = {"alpha": torch.rand(1, 1475, 1, 1), "beta": torch.rand(1, 1400, 1, 1)}
    refused(state, tmp_path / "d.pth", r"beta has the shape \[1, 1400, 1, 1\], wanted", "dists")
    refused({"alpha": state["alpha"]}, tmp_path / "d.pth", "its tensors are 'alpha'", "dists")


# --- The way back ----------------------------------------------------------------------------


def stored(state, path: Path, name: str, *, with_classifier: bool = False) -> Path:
    """Puts a state dict into the store, and exports it."""
    conversion.convert(saved(state, path), name, with_classifier=with_classifier)
    return conversion.export(name, path.with_name("exported.safetensors"))


@pytest.mark.parametrize("with_classifier", [False, True])
def test_an_export_is_what_was_converted(with_classifier, state, store):
    """Bit for bit, and PyTorch takes it."""
    wanted = {n: t for n, t in state.items() if with_classifier or n.startswith("features")}
    path = stored(wanted, store / "net.pth", NAME, with_classifier=with_classifier)
    exported = safetensors.torch.load_file(path)
    assert set(exported) == set(wanted)
    assert all(torch.equal(exported[name], wanted[name]) for name in wanted)
    Network(NAME, with_classifier=with_classifier).load_state_dict(exported, strict=True)
    again = conversion.convert(
        path, NAME, with_classifier=with_classifier, out=store / "again.safetensors"
    )
    for file, name in zip(again, SETS, strict=False):
        assert weights.read_file(file, name)[1].sha256 == weights.provenance(name).sha256
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert metadata["source"] == "net.pth"
    assert metadata["licence"] == "unknown"


def test_a_folded_network_is_exported_as_the_plain_one(store):
    """Which gives the same, without normalisation."""
    theirs = network("vgg11_bn")
    path = stored(theirs.state_dict(), store / "net.pth", "vgg11_bn")
    plain = Network("vgg11", with_classifier=False)
    plain.load_state_dict(safetensors.torch.load_file(path), strict=True)
    images = torch.randn(1, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted, found = theirs.features(images), plain.features(images)
    assert torch.linalg.norm(found - wanted) < 1e-5 * torch.linalg.norm(wanted)
    assert np.any(wanted.numpy())


@pytest.mark.parametrize("name", ["lpips-squeeze-v0.1", "lpips-alex-v0.0", "dists"])
def test_exports_of_what_ships(name, store):
    """Under the names of LPIPS and DISTS, and back."""
    path = conversion.export(name, store / "exported.safetensors")
    same(dict(open_file(path, name)), flat(weights.read(name)))


def test_exports_of_what_is_not_there(store):
    with pytest.raises(WeightsError, match="weights get squeezenet1_1"):
        conversion.export(NAME, store / "exported.safetensors")
    with pytest.raises(InputError, match="--dialect must be one of 'torchvision', 'timm'"):
        conversion.export(NAME, store / "exported.safetensors", dialect="keras")
    assert not list(store.rglob("*.safetensors"))


@pytest.mark.parametrize("dialect", ["torchvision", "timm"])
def test_networks_that_timm_has_not_keep_torchvisions_names(dialect, state, store):
    conversion.convert(saved(state, store / "net.pth"), NAME, with_classifier=True)
    path = conversion.export(NAME, store / "exported.safetensors", dialect=dialect)
    exported = safetensors.torch.load_file(path)
    assert {n: t.shape for n, t in exported.items()} == {n: t.shape for n, t in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["torchvision", "timm"])
def test_exports_of_a_large_classifier(dialect, store, monkeypatch):
    """Matrices in torchvision's names, convolutions in timm's; both come back as they were."""
    state = dict(network("vgg11", with_classifier=True).state_dict())
    theirs = {"torchvision": state, "timm": timm(state)}[dialect]
    conversion.convert(saved(theirs, store / "net.pth"), "vgg11", with_classifier=True)
    path = conversion.export("vgg11", store / "exported.safetensors", dialect=dialect)
    exported = safetensors.torch.load_file(path)
    assert set(exported) == set(theirs)
    assert all(torch.equal(exported[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["torchvision", "timm"])
def test_alexnet_has_matrices_in_every_dialect(dialect, store, monkeypatch):
    """timm has none, so that its own shapes are nobody's."""
    known = {name: weights.entry(name)._replace(sha256=None) for name in weights.names()}
    monkeypatch.setattr(weights, "manifest", lambda: known)
    state = dict(network("alexnet", with_classifier=True).state_dict())
    conversion.convert(saved(state, store / "net.pth"), "alexnet", with_classifier=True)
    path = conversion.export("alexnet", store / "exported.safetensors", dialect=dialect)
    plain = Network("alexnet", with_classifier=True)
    plain.load_state_dict(safetensors.torch.load_file(path), strict=True)


def test_the_store_takes_no_others_where_the_manifest_knows_them(store):
    """AlexNet's and VGG-16's values are known; to a file of one's own anything goes."""
    file = saved(network("alexnet").state_dict(), store / "net.pth")
    with pytest.raises(WeightsError, match="neither their checksum nor that file's"):
        conversion.convert(file, "alexnet")
    assert weights.find("alexnet") is None
    (path,) = conversion.convert(file, "alexnet", out=store / "mine.safetensors")
    assert weights.read_file(path, "alexnet")[1].source == "net.pth"
