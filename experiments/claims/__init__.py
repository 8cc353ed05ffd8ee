"""The claims made for perceptual losses, each a small experiment with a number and a verdict.

perceptual-jax claims                             # all, which takes long
perceptual-jax claims --claims shifts adversarial
perceptual-jax claims --judgements triplets.csv   # with what people said

A rule that stands beside each claim decides whether it holds.
"""

from __future__ import annotations

import dataclasses

import perceptual_jax as pj
from experiments.claims import (
    adversarial,
    blur,
    enlarging,
    judged,
    modes,
    prediction,
    shifts,
    style,
)
from experiments.claims.claim import Claim, Measured, Setting, Verdict, read_measured
from experiments.common.data import EMBEDDED
from experiments.common.loop import Interrupted, interruptible
from experiments.common.options import check_bounds
from experiments.common.progress import console
from experiments.common.report import Report
from experiments.common.run_folder import RunFolder, resumed, start
from perceptual_jax.errors import InputError, choice

__all__ = ["CLAIMS", "PRESETS", "Claim", "Config", "run"]

CLAIMS: dict[str, Claim] = {
    "blur": blur.CLAIM,
    "shifts": shifts.CLAIM,
    "relu": judged.RELU,
    "norms": judged.NORMS,
    "untrained": judged.UNTRAINED,
    "adversarial": adversarial.CLAIM,
    "convergence": enlarging.CONVERGENCE,
    "layers": enlarging.LAYERS,
    "style": style.CLAIM,
    "mixtures": enlarging.MIXTURES,
    "prediction": prediction.CLAIM,
    "modes": modes.CLAIM,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Options of `perceptual-jax claims`."""

    claims: tuple[str, ...] = tuple(CLAIMS)
    """Which: blur, shifts, relu, norms, untrained, adversarial, convergence, layers, style,
    mixtures, prediction, modes."""
    judgements: str = "embedded"
    """Triplets that people judged, as two-afc reads them; "embedded" is a stand-in, photographs
    with damage that people are known to mind or not."""
    pictures: int = len(EMBEDDED)
    """How many embedded photographs."""
    size: int = 96
    """Their side, in pixels."""
    steps: int = 150
    """Of descents, where images are sought."""
    training_steps: int = 240
    """Of networks, where these are trained, under each of a dozen losses."""
    seed: int = 0
    """Of all random draws."""
    out: str = "runs"
    """Where runs are kept."""
    name: str | None = None
    """The run's name; by default the time."""
    resume: bool = False
    """Go on with the run of that name, with the options it was started with."""


PRESETS = {
    "quick": Config(
        claims=("blur", "shifts", "relu", "norms", "untrained", "adversarial"),
        pictures=2,
        size=64,
        steps=60,
    ),
    "default": Config(),
    "paper": Config(size=192, steps=1000, training_steps=10_000),
}


def run(config: Config) -> dict[str, Verdict]:
    """Measures the claims and writes one page of verdicts.

    Returns:
      `{claim: verdict}`.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; what was measured is kept, and the run can be resumed.
    """
    config = resumed("claims", config)
    _check(config)
    folder = start("claims", config, distances=[pj.make("lpips-vgg"), pj.make("lpips-alex")])
    found = {}
    with interruptible() as asked_to_stop:
        for name in config.claims:
            setting = Setting(
                config.pictures, config.size, config.steps, config.training_steps,
                config.judgements, config.seed, folder, asked_to_stop,
            )  # fmt: skip
            try:
                found[name] = _measured(name, setting)
            except Interrupted:
                raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
            if asked_to_stop():
                raise Interrupted(f"stopped; go on with: {folder.resume_command}")
    verdicts = {name: CLAIMS[name].verdict(measured.numbers) for name, measured in found.items()}
    folder.write_json(
        "results.json",
        {
            name: {"says": CLAIMS[name].says, "verdict": verdicts[name], **measured.numbers}
            for name, measured in found.items()
        },
    )
    _report(config, found, verdicts).write(folder.path / "report.html")
    for name, verdict in verdicts.items():
        console.print(f"{name}: {verdict}")
    console.print(f"report: {folder.path / 'report.html'}")
    return verdicts


def _check(config: Config) -> None:
    bounds = {"pictures": (2, len(EMBEDDED)), "size": (48, 1024), "steps": (1, 10**6)}
    bounds["training_steps"] = (12, 10**9)
    check_bounds(config, {**bounds, "seed": (0, 2**31 - 1)})
    if not config.claims or len(set(config.claims)) < len(config.claims):
        raise InputError(
            f"--claims must name one or more, each once; got {' '.join(config.claims)}"
        )
    for name in config.claims:
        choice("--claims", name, CLAIMS)


def _measured(name: str, setting: Setting) -> Measured:
    """From the folder, if it was measured before."""
    folder = setting.folder.path / name
    kept = folder / "measured.json"
    if not kept.exists():
        measured = CLAIMS[name].measure(setting)
        folder.mkdir(exist_ok=True)
        captions = {}
        for row, shown in measured.pictures.items():
            captions[row] = [caption for _, caption in shown]
            for i, (image, _) in enumerate(shown):
                setting.folder.write_image(f"{name}/{row}-{i + 1}.png", image)
        # Last, so that what is found is whole.
        RunFolder(folder, "claims").write_json(
            "measured.json", {"numbers": measured.numbers, "captions": captions}
        )
        return read_measured(folder)
    measured = read_measured(folder)
    try:  # All that will be made of them.
        CLAIMS[name].verdict(measured.numbers)
        CLAIMS[name].table(measured.numbers)
        CLAIMS[name].draw(measured.numbers)
    except Exception as error:  # Numbers of another kind make errors of every kind.
        raise InputError(
            f"{kept} holds no measurement of this version ({error!r}): delete it to measure again"
        ) from None
    return measured


def _report(config: Config, found: dict[str, Measured], verdicts: dict[str, Verdict]) -> Report:
    report = Report(
        "What is claimed for perceptual losses, measured",
        "Every claim with what was measured, the rule that decides, and the verdict; the numbers "
        "are of this run, and the command at the end makes them again.",
    )
    report.table(["claim", "verdict"], [[CLAIMS[name].says, verdicts[name]] for name in found])
    for name, measured in found.items():
        claim = CLAIMS[name]
        report.heading(f"{name}: {verdicts[name]}")
        report.text(claim.says)
        report.figure(*claim.draw(measured.numbers))
        report.table(*claim.table(measured.numbers))
        report.pictures(measured.pictures)
        report.text(f"{claim.how} {claim.rule}")
        report.text(f"Source: {claim.source}.")
    if config.judgements == "embedded" and {"relu", "norms", "untrained"} & set(found):
        report.text(
            "Nobody was asked here: --judgements takes triplets that people judged, and the "
            "verdicts on agreement with people are worth as much as those."
        )
    report.how_it_was_made(config, f"perceptual-jax claims --claims {' '.join(found)}")
    return report
