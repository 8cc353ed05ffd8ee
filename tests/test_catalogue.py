"""Specs: a name or a call of literals; anything else is one `InputError`, and nothing runs."""

import re

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import perceptual_jax as pj
from perceptual_jax import catalogue
from perceptual_jax.distances.learned import Learned, write_learned


@pytest.mark.parametrize("name", pj.names())
def test_a_plain_name_is_canonical(name):
    assert pj.make(name).name == name
    assert catalogue.entry(name).description


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("  l1 ", "l1"),
        ("l1()", "l1"),
        ("gradient(gray=False)", "gradient"),
        ("gradient( gray = True , )", "gradient(gray=True)"),
        ("l1(value_range=[-1, 1])", "l1(value_range=(-1.0, 1.0))"),
        ("l1(value_range=(0, 1))", "l1"),
        (
            "vgg16(metric='l2', layers=['relu1_2'])",
            "vgg16(layers=('relu1_2',), metric='l2')",
        ),
        ("1*l1 + 0.50 * gradient(gray=False)", "l1 + 0.5 * gradient"),
        ("0.1234567 * l1 +  1e20 * mmd++", "0.1234567 * l1 + 1e+20 * mmd++"),
        (" 2 * l1 ", "2 * l1"),
        (
            "gaussian-pyramid(distance='l1 + 0.5 * lp(p=1)') + 1 * l2",
            "gaussian-pyramid(distance='l1 + 0.5 * lp(p=1)') + 1 * l2",
        ),
    ],
)
def test_specs_become_canonical(spec, canonical):
    """Options in alphabetical order, defaults left out, lists as tuples; stable once there."""
    assert pj.make(spec).name == canonical
    assert pj.make(canonical).name == canonical


def test_keywords_are_the_spec():
    """Also as the objects that the literals stand for."""
    made = pj.make("lpips-alex", dtype=jax.numpy.bfloat16, precision=jax.lax.Precision.HIGH)
    assert made.name == "lpips-alex(dtype='bfloat16', precision='high')"
    assert pj.make("charbonnier", eps=np.float64(0.5)).name == "charbonnier(eps=0.5)"


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("lpips-vg", {}, "did you mean 'lpips-vgg'"),
        ("", {}, "there is no distance ''"),
        ("gradient(grey=True)", {}, "no option 'grey', did you mean 'gray'"),
        ("l1", {"name": "x"}, "no option 'name'"),
        ("vgg16(backbone='alexnet')", {}, "no option 'backbone'"),
        ("gradient(gray=True)", {"gray": True}, "given both"),
        ("l1 + 2 * l2 + 0.5 * l1", {}, "has l1 twice"),
        ("l1 + 2 * gradient", {"gray": True}, "l1 has no option 'gray'"),
        ("l1 + 0 * l2", {}, r"positive number; got '0' in 'l1 \+ 0 \* l2'"),
        ("l1 + 1e40 * l2", {}, "must be a positive number"),
        ("1 * 2 * l1", {}, "one weight"),
        ("l1 - 0.5 * l2", {}, "none is subtracted"),
        ("l1 + 0.5 l2", {}, r"write '0.5 \* l2'"),
        ("l1 + 0.5 * lpips-vg", {}, "did you mean 'lpips-vgg'"),
        ("l1" + " + 1 * l1" * 1000, {}, "at most 2000 characters"),
        ("vgg16(metric='l3')", {}, "must be one of"),
        ("vgg16(layers=('conv9_9',))", {}, "conv9_9"),
        ("vgg16(layers=())", {}, "at least one layer"),
        ("vgg16(layers=('pixels', 'pixels'))", {}, "must not repeat"),
        ("vgg16(layers={'pixels': 'a'})", {}, "must be a finite number"),
        ("vgg16(layers=3)", {}, "wrong kind"),
        ("charbonnier(eps=0)", {}, "eps must be positive"),
        ("charbonnier(eps=1e-30)", {}, "at least 1e-18"),
        ("gradient(gray='no')", {}, "must be True or False"),
        ("vgg16(layers={'pixels': 1e999})", {}, "must be a finite number"),
        ("charbonnier(eps='a')", {}, "eps must be a finite number"),
        ("l1(value_range=(1, 0))", {}, "increasing"),
        ("l1(value_range=(0, 1e999))", {}, "finite"),
        ("l1(value_range=1)", {}, "two numbers"),
        ("l1(dtype='int32')", {}, "floating dtype"),
        ("l1(dtype='complicated')", {}, "floating dtype"),
        ("lpips-alex(precision='best')", {}, "must be one of"),
        (None, {}, "named by a string; got NoneType"),
        (b"l1", {}, "named by a string; got bytes"),
    ],
)
def test_what_is_wrong_is_named(spec, options, message):
    with pytest.raises(pj.InputError, match=message):
        pj.make(spec, **options)


HOSTILE = [
    "l1(eps=__import__('os').system('true'))",
    "l1(value_range=print)",
    "l1(value_range=(0, one))",
    "l1(value_range=[v for v in (0, 1)])",
    "l1(value_range=lambda: 0)",
    "l1(value_range=f'{1}')",
    "l1(value_range=2**10**10)",
    "l1(**{'dtype': None})",
    "l1(*(1,))",
    "l1(1)",
    "l1(dtype=None, dtype=None)",
    "l1(dtype=None))",
    "l1(",
    "l1)",
    "l1()()",
    "l1().__class__",
    "l1(); import os",
    "l1(dtype=None) or 1",
    "l1(\0)",
    "l1(dtype='\ud800')",
    "__import__('os')",
    "l1(dtype=" + "(" * 500 + ")" * 500 + ")",
    "l1(dtype=" + "-" * 1500 + "1)",
    "l1(dtype=" + "9" * 10**6 + ")",
    "x" * 10**6,
    "vgg16(layers={[]: 1})",
]


@pytest.mark.parametrize("spec", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_specs_are_refused(spec):
    with pytest.raises(pj.InputError):
        pj.make(spec)


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=5,
)
OPTIONS = sorted({option for name in pj.names() for option in catalogue.entry(name).options})


@given(st.sampled_from(pj.names()), st.sampled_from(OPTIONS), LITERALS)
@example("l1", "value_range", (0, 10**400))
def test_any_value_is_accepted_or_refused(name, option, value):
    """An option of any value: a distance, or an `InputError`."""
    try:
        made = pj.make(name, **{option: value})
    except pj.InputError:
        return
    assert made.name.startswith(name)


@given(st.text(alphabet="l1vg6()=,'\"[]{}*:._-+ \n\\0abe", max_size=60))
def test_any_text_is_accepted_or_refused(text):
    for spec in (text, f"l1({text})", f"l1(value_range={text})"):
        try:
            pj.make(spec)
        except pj.InputError:
            continue


def scaled(*, factor: float = 2.0, gray: bool = False, name: str = "scaled") -> pj.Distance:
    """A distance of somebody's own."""
    return pj.weighted_sum({"pixels": (factor, pj.make("gradient", gray=gray))}, name=name)


@pytest.fixture
def own_catalogue(monkeypatch):
    monkeypatch.setattr(catalogue, "_ENTRIES", dict(catalogue._ENTRIES))


@pytest.mark.usefixtures("own_catalogue")
def test_a_registered_distance_is_one_of_the_catalogue():
    assert "scaled" not in pj.names()
    pj.register("scaled", scaled, "twice the differences")
    assert pj.names()[-1] == "scaled"
    assert catalogue.entry("scaled").options == {"factor": 2.0, "gray": False}
    made = pj.make("scaled(gray=True, factor=3)")
    assert made.name == "scaled(factor=3.0, gray=True)"
    x, y = jax.random.uniform(jax.random.key(0), (2, 1, 8, 8, 3))
    np.testing.assert_allclose(made({}, x, y), 3 * pj.make("gradient(gray=True)")({}, x, y))
    with pytest.raises(pj.InputError, match="no option 'grey', did you mean 'gray'"):
        pj.make("scaled(grey=True)")
    pj.register("scaled", lambda factor=1.0, name="": scaled(factor=factor, name=name), "another")
    assert pj.make("scaled")({}, x, y) < made({}, x, y)


@pytest.mark.usefixtures("own_catalogue")
@pytest.mark.parametrize(
    ("name", "factory", "message"),
    [
        ("l2", scaled, "'l2' is a distance of the catalogue"),
        ("Mine", scaled, "is of small letters"),
        ("mine(a=1)", scaled, "is of small letters"),
        ("mine.safetensors", scaled, "is of small letters"),
        (3, scaled, "got 3"),
        ("mine", lambda factor=1.0: scaled(factor=factor), "must take 'name' as a keyword"),
        ("mine", lambda factor, name="mine": scaled(), "must take 'factor' as a keyword"),
        ("mine", lambda name="mine", **options: scaled(), "must take 'options' as a keyword"),
    ],
)
def test_what_cannot_be_registered(name, factory, message):
    before = pj.names()
    with pytest.raises(pj.InputError, match=re.escape(message)):
        pj.register(name, factory, "mine")
    assert pj.names() == before


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("psnr", "10 log10(4 / l2)"),
        ("MSE", "it is l2 / 4"),
        ("mae", "it is l1 / 2"),
        ("lpips", "there are lpips-alex, lpips-vgg"),
        ("l1+0.1*lpips-vgg", 'leave spaces about the + of a sum, "l1 + 0.2 * lpips-vgg"'),
        ("l1 + lpips-vgg", "'lpips-vgg' needs a weight, as in 'l1 + 0.1 * lpips-vgg'"),
        ("+", 'quote a sum, "l1 + 0.2 * lpips-vgg"'),
        ("ssim,l2", "separate distances by spaces, as in: ssim l2"),
        ("ssim,", "separate distances by spaces, as in: ssim"),
        (
            "vgg16(layers=('relu1_1', 'pixels')), l1(value_range=(0, 1))",
            "by spaces, as in: vgg16(layers=('relu1_1', 'pixels')) l1(value_range=(0, 1))",
        ),
        ("vgg16(metric=l2)", "text stands in quotes: metric='l2'"),
        ("nothing-like-it", "`perceptual-jax list` and pj.names() say what there is"),
    ],
)
def test_what_people_ask_for_by_other_names(spec, said):
    with pytest.raises(pj.InputError, match=re.escape(said)) as raised:
        pj.make(spec)
    assert len(str(raised.value)) < 250


def test_the_sum_that_a_message_shows_is_one():
    with pytest.raises(pj.InputError) as raised:
        pj.make("l1 + lpips-vgg")
    shown = re.search("as in '(.*?)'", str(raised.value))
    assert isinstance(pj.make(shown[1]), pj.Distance)


def test_a_sum_is_that_of_its_parts(tmp_path, monkeypatch):
    x, y = jax.random.uniform(jax.random.key(0), (2, 3, 16, 16, 3), minval=-1)
    loss = pj.make("l1 + 0.5 * ssim", value_range=(-1, 1))
    l1, ssim = (pj.make(name, value_range=(-1, 1)) for name in ("l1", "ssim"))
    np.testing.assert_allclose(loss({}, x, y), l1({}, x, y) + 0.5 * ssim({}, x, y), rtol=1e-6)
    assert [*loss.terms({}, x, y)] == [l1.name, ssim.name]
    assert loss.map({}, x, y).shape == (3, 16, 16)
    # A file may be called like one.
    monkeypatch.chdir(tmp_path)
    file = "l1 + 0.5 * ssim.safetensors"
    heads = {"relu1_2": np.ones(64)}
    write_learned(file, Learned("vgg16(layers=('relu1_2',), metric='l2')", heads))
    assert pj.make(file).name == file


def test_what_pixels_are_scaled_to_is_as_said():
    """As the messages have it: PSNR, the mean square and the mean absolute difference from ours."""
    x, y = jax.random.uniform(jax.random.key(0), (2, 1, 8, 8, 3))
    np.testing.assert_allclose(pj.make("l2")({}, x, y) / 4, ((x - y) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(pj.make("l1")({}, x, y) / 2, abs(x - y).mean(), rtol=1e-5)
