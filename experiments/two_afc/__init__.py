"""Which distance sees like people do? Two-alternative forced choice over triplets of images.

People are shown a reference and two images and say which is nearer to it. A distance chooses the
nearer one too; its score is the fraction of people who agree, half where it cannot choose.

    perceptual-jax two-afc                              # a stand-in, drawn; no human data
    perceptual-jax two-afc --data triplets.csv          # ref,p0,p1,judge[,votes][,split]
    perceptual-jax two-afc --data BAPPS                 # the authors' folders
    perceptual-jax two-afc --test jnd --data BAPPS      # same or not the same

References:
  R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of Deep
  Features as a Perceptual Metric", CVPR 2018, https://arxiv.org/abs/1801.03924
"""

from __future__ import annotations

from functools import partial

from experiments.common.loop import Interrupted, interruptible
from experiments.common.options import made
from experiments.common.pairs import Stopped, distances_of_pairs
from experiments.common.run_folder import resumed, start
from experiments.common.triplets import judgements, pairs_of, read_resized
from experiments.two_afc.config import PRESETS, Config, check
from experiments.two_afc.report import write
from experiments.two_afc.scores import Scores, score
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "Scores", "run"]


def run(config: Config) -> Scores:
    """Scores the distances and writes the run's folder.

    Raises:
      InputError: for data or options that cannot be used; nothing is scored in part.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("two-afc", config)
    check(config)
    distances = made(config.distances, config.size)
    data = judgements(
        config.data,
        config.test,
        subset=config.subset,
        per_distortion=config.per_distortion,
        size=config.size,
        seed=config.seed,
    )
    if config.by_votes and data.votes is None:
        raise InputError("--by-votes needs data that says how many people voted")
    folder = start("two-afc", config, distances=distances)
    read = partial(read_resized, data, config.size)
    with interruptible() as asked_to_stop:
        try:
            found = distances_of_pairs(
                distances,
                pairs_of(data.items),
                read,
                folder.shared / "distances",
                seed=config.seed,
                images_at_once=config.images_at_once,
                pairs_at_once=config.pairs_at_once,
                asked_to_stop=asked_to_stop,
            )
        except Stopped:
            raise Interrupted(f"stopped; go on with: {folder.resume_command}") from None
    names = tuple(distance.name for distance in distances)
    found = found.reshape(len(names), len(data.items), -1)
    scores = score(config, data, names, found)
    write(config, folder, data, found, scores)
    return scores
