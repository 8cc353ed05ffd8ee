"""Manifests, specs and the files of runs, damaged in every way: read, or one line that says why."""

import dataclasses
import json
import random

import numpy as np
import pytest

import perceptual_jax as pj
from experiments.claims import CLAIMS
from experiments.claims import Config as Claims
from experiments.claims.claim import read_measured
from experiments.common.run_folder import RunFolder, resumed
from experiments.common.triplets import judgements
from experiments.demo import Config as Demo
from experiments.style_transfer.config import Config as StyleTransfer
from experiments.two_afc import Config as TwoAfc
from perceptual_jax import catalogue
from tests.fuzz.bounds import watched
from tests.fuzz.damage import HOSTILE_TEXT, altered, damaged, reworded

pytestmark = pytest.mark.slow


# --- Manifests -----------------------------------------------------------------------------

MANIFESTS = (
    "ref,p0,p1,judge\na.png,b.png,b.png,0.5\nb.png,in/a.png,a.png,1\n",
    '\ufeffref,p0,p1,judge,votes,split\r\n"a.png",b.png,in/a.png,0,3,"one, two"\r\n',
    "head,close,far\na.png,b.png,in/a.png\n",
    "p0,p1,same,votes\na.png,b.png,0.25,4\nin/a.png,a.png,1,1\n",
)


def test_manifests(tmp_path):
    """Images named are those of the folder; the rest is refused with the line it is in."""
    rng = random.Random(0)
    folder = tmp_path / "data"
    (folder / "in").mkdir(parents=True)
    for name in ("a.png", "b.png", "in/a.png"):
        pj.images.write(folder / name, np.zeros((4, 4, 3)))
    pj.images.write(tmp_path / "outside.png", np.zeros((4, 4, 3)))
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    words = [",a.png,", "../outside.png", str(tmp_path / "outside.png"), "link.png", "in/../a.png",
             "in", "\n", ",", "1", "votes", "split"]  # fmt: skip
    count = 20_000
    path = folder / "list.csv"
    with watched(folder) as cases:
        for number in range(count):
            text = MANIFESTS[number % len(MANIFESTS)]
            for _ in range(number // len(MANIFESTS) % 3):
                text = reworded(text, rng, words)
            data = text.encode(errors="surrogatepass")
            if data and rng.random() < 0.2:
                data = damaged(data, rng)
            path.write_bytes(data)
            test = "jnd" if data.find(b"same") >= 0 else "2afc"

            def read(test=test):
                found = judgements(str(path), test, subset="val", per_distortion=1, size=8, seed=0)
                for index in range(len(found.names)):
                    found.read(index)
                return found

            found = cases.run(read, data, str(folder))
            if found is not None and not (
                len(found.items) == len(found.judge) == len(found.split) > 0
                and np.isfinite(found.judge).all()
                and found.items.max() < len(found.names)
            ):
                cases.wrong.append(f"{data!r}: gave {found}")
    cases.check(count)


# --- Specs ---------------------------------------------------------------------------------

PIECES = (
    *("(", ")", "=", ",", "[", "]", "{", "}", "'", '"', "#", ";", ":", "*", "**", "-", "~", "\\"),
    *("lambda:0", "x if 1 else 2", "(yield)", "await x", "f'{1}'", "b'a'", "...", "1j", "0b1"),
    *("__import__('os').system('true')", "[].__class__", "print", "not 1", "1e999", "1e-320"),
    *("value_range=(0, 1)", "dtype='bfloat16'", "layers={'pixels': 1}", "distance='l2'"),
    *("True", "None", "{1: 2}", "{1, 2}", "'a' 'b'", "1_0", "0777", "(" * 300, "9" * 5000),
)


def calls(rng: random.Random) -> str:
    """A spec of an entry with some of its options, most at values that it takes."""
    name = rng.choice(pj.names())
    options = list(catalogue.entry(name).options.items())
    given = []
    for option, default in rng.sample(options, min(len(options), rng.randint(0, 3))):
        other = rng.choice([default, default, 1, 2.5, "l1", (1, 2), None, -1, True, 10**30, 1e-30])
        given.append(f"{option}={other!r}")
    return f"{name}({', '.join(given)})"


def test_specs_are_parsed(tmp_path):
    """Literals alone; what is no call of a name with literals is refused."""
    rng = random.Random(0)
    count = 15_000
    with watched(tmp_path) as cases:
        for number in range(count):
            spec = calls(rng)
            for _ in range(number % 3):
                spec = reworded(spec, rng, PIECES)
            cases.run(lambda spec=spec: catalogue.parse(spec), spec)
    cases.check(count)


def test_specs_are_made(tmp_path, monkeypatch):
    """The whole way to a distance, whose name makes it again."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    count = 6_000
    # The checks of shapes that the tests add are programs, made when a check fails.
    with watched(tmp_path, allowed={"exec"}) as cases:
        for number in range(count):
            spec = calls(rng)
            if number % 3 == 0:
                spec = f"{spec} + {rng.choice(['0.5', '1e-3', '2'])} * {calls(rng)}"
            for _ in range(number % 2):
                spec = reworded(spec, rng, PIECES)
            made = cases.run(lambda spec=spec: pj.make(spec), spec)
            if made is not None:
                again = pj.make(made.name).name
                if again != made.name:
                    cases.wrong.append(f"{spec!r} is {made.name!r}, which makes {again!r}")
    cases.check(count)


# --- Files of runs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "config"),
    [("two-afc", TwoAfc()), ("demo", Demo()), ("style-transfer", StyleTransfer()),
     ("claims", Claims())],
)  # fmt: skip
def test_configurations_of_runs(tmp_path, command, config):
    """A run is resumed with options of the kinds that the command has, or not at all."""
    rng = random.Random(command)
    count = 3_000
    folder = tmp_path / command / "a"
    folder.mkdir(parents=True)
    path = folder / "config.json"
    saved = {"command": command, "config": dataclasses.asdict(config), "versions": {"jax": "0"}}
    asked = dataclasses.replace(config, out=str(tmp_path), name="a", resume=True)
    kinds = {field.name: type(getattr(config, field.name)) for field in dataclasses.fields(config)}
    path.write_text(json.dumps(saved))
    assert resumed(command, asked) == asked  # And what Python evaluates of a class, it has.
    with watched(tmp_path) as cases:
        for number in range(count):
            text = altered(saved, rng) if number % 4 else json.dumps(saved)
            data = text.encode(errors="surrogatepass")
            if data and rng.random() < 0.1:
                data = damaged(data, rng)
            path.write_bytes(data)
            found = cases.run(lambda: resumed(command, asked), data, str(folder))
            for name, kind in kinds.items() if found is not None else ():
                value = getattr(found, name)
                alike = kind in (type(None), type(value)) or value is None
                if not alike and (kind, type(value)) != (float, int):
                    cases.wrong.append(f"{data!r}: gave {name} = {value!r}")
    cases.check(count)


def test_metrics_of_runs(tmp_path):
    """Lines that are none are passed over, as those that a kill cut short; others are kept."""
    rng = random.Random(0)
    lines = [{"distance": "l2", "step": 1, "loss": 0.5}, {"distance": "l1", "step": 2, "x": [1]}]
    sound = "".join(json.dumps(line) + "\n" for line in lines)
    folder = RunFolder(tmp_path, "glo")
    path = tmp_path / "metrics.jsonl"
    count = 8_000
    accepted = 0
    with watched(tmp_path) as cases:
        for number in range(count):
            text = altered(lines[number % 2], rng)
            data = text.encode(errors="surrogatepass")
            if rng.random() < 0.5:
                data = damaged(data + b"\n", rng)
            path.write_bytes(sound.encode() + data + b"\n" + sound.encode())
            found = cases.run(folder.metrics, data)
            whole = found is not None and all(
                isinstance(line, dict) and isinstance(line.get("step", 0), int) for line in found
            )
            if not whole:
                cases.wrong.append(f"{data!r}: gave {found}")
            elif sum(line in lines for line in found) < 2 * len(lines):
                cases.wrong.append(f"{data!r}: lost lines that are whole")
            accepted += whole and len(found) > 2 * len(lines)
    assert not cases.wrong, cases.wrong[:10]
    assert cases.accepted == count  # Damage is never in the way of going on.
    assert 0 < accepted < count


def test_what_claims_measured(tmp_path):
    """Read as it was written, with pictures of its own folder alone; or refused."""
    rng = random.Random(0)
    name = next(iter(CLAIMS))
    folder = tmp_path / name
    folder.mkdir()
    for place in (folder / "row-1.png", folder / "row-2.png", tmp_path / "outside-1.png"):
        pj.images.write(place, np.zeros((4, 4, 3)))
    sound = {"numbers": {"a": 1.5, "b": [1, 2]}, "captions": {"row": ["one", "two"]}}
    hostile = ["../outside", "../../x", str(tmp_path / "outside"), "row-1.png\0", *HOSTILE_TEXT]
    count = 5_000
    path = folder / "measured.json"
    with watched(folder) as cases:
        for number in range(count):
            way = number % 4
            text = json.dumps(sound)
            if way == 1:
                text = json.dumps(sound | {"captions": {rng.choice(hostile): ["one"]}})
            elif way > 1:
                text = altered(sound, rng)
            path.write_bytes(text.encode(errors="surrogatepass"))
            found = cases.run(lambda: read_measured(folder), text, str(folder))
            if found is not None and not all(
                isinstance(caption, str) for row in found.pictures.values() for _, caption in row
            ):
                cases.wrong.append(f"{text!r}: gave {found}")
    cases.check(count)
