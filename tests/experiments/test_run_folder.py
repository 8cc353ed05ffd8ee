"""What a run keeps is read as what may be damaged, and every configuration survives the way."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

import perceptual_jax as pj
from experiments.__main__ import COMMANDS
from experiments.claims.claim import read_measured
from experiments.common.run_folder import RunFolder, resumed
from experiments.demo import Config


def saved(folder, command, config) -> None:
    """A run's config.json, as `start` writes it."""
    (folder / command / "a").mkdir(parents=True)
    text = json.dumps({"config": dataclasses.asdict(config)})
    (folder / command / "a" / "config.json").write_text(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_preset_can_be_resumed(tmp_path, command):
    """With options of the kinds that they had."""
    module = importlib.import_module(COMMANDS[command][0])
    for number, preset in enumerate(module.PRESETS.values()):
        if not hasattr(preset, "resume"):
            continue
        folder = tmp_path / str(number)
        saved(folder, command, preset)
        asked = dataclasses.replace(preset, out=str(folder), name="a", resume=True)
        assert resumed(command, asked) == asked


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": "many"}, "steps cannot be 'many'"),
        ({"steps": True}, "steps cannot be True"),
        ({"steps": 1.5}, "steps cannot be 1.5"),
        ({"distances": "l1"}, "distances cannot be 'l1'"),
        ({"distances": ["l1", 2]}, "distances cannot be"),
        ({"strange": 1}, "strange"),
        ({"name": ["a"]}, "name cannot be"),
    ],
)
def test_options_of_another_kind_are_refused(tmp_path, changed, message):
    saved(tmp_path, "demo", Config())
    path = tmp_path / "demo" / "a" / "config.json"
    options = dataclasses.asdict(Config()) | changed
    path.write_text(json.dumps({"config": options}))
    asked = Config(out=str(tmp_path), name="a", resume=True)
    with pytest.raises(pj.InputError, match=message):
        resumed("demo", asked)


def test_lines_of_metrics_that_are_none_are_passed_over(tmp_path):
    """Those cut short by a kill, and those that are of another kind."""
    sound = {"distance": "l1", "step": 1}
    lines = [json.dumps(sound), "5", "[]", '{"step": "a"}', "[" * 100_000, '{"a": "\xff', '{"st']
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode("latin1"))
    folder = RunFolder(tmp_path, "glo")
    assert folder.metrics() == [sound]
    assert folder.forget_after(1, {"distance": "l1"}) == [sound]


@pytest.mark.parametrize(
    "text",
    ['{"numbers": {}, "captions": {"../x": ["a"]}}', '{"numbers": {}, "captions": {"x": [1]}}',
     '{"numbers": [], "captions": {}}', "[]", "{", "[" * 100_000],
)  # fmt: skip
def test_measurements_of_claims_that_are_none(tmp_path, text):
    """Pictures that they name are those of their own folder."""
    pj.images.write(tmp_path / "x-1.png", np.zeros((4, 4, 3)))
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim" / "measured.json").write_text(text)
    with pytest.raises(pj.InputError, match=r"measured\.json cannot be read .* measure again"):
        read_measured(tmp_path / "claim")
