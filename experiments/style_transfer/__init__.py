"""Style transfer: one picture's scene in another's manner, under any two distances.

    min over z of  a d_content(z, content) / d_content(grey, content)
                 + b d_style(z, style) / d_style(content, style)  +  c TV(z) / TV(content)

Each term is relative to where it would stand without the transfer, so that the same weights serve
every distance and every size. A style can have any size: Gram matrices, means of random features
and sorted projections know nothing of places. For a distance that does, the style is cropped to
the content's aspect and resized, which the run says.

    perceptual-jax style-transfer                     # embedded pictures, some minutes on 2 cores
    perceptual-jax style-transfer --content photo.jpg --style painting.jpg another.jpg --size 512
    perceptual-jax style-transfer --content photos/ --style paintings/      # one grid of them all
    perceptual-jax style-transfer --preset compare    # trained VGG, random VGG, MMD, SWD

References:
  L. Gatys, A. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
  CVPR 2016.
  L. Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016,
  https://arxiv.org/abs/1606.05897
"""

from __future__ import annotations

import jax
import numpy as np

import perceptual_jax as pj
from experiments.common.loop import interruptible
from experiments.common.optimise import scales
from experiments.common.pictures import fitted, named_pictures
from experiments.common.progress import console
from experiments.common.run_folder import file_name, resumed, start
from experiments.style_transfer.config import CONTENTS, PRESETS, STYLES, Config, check
from experiments.style_transfer.drawing import Pictures, Transfer, descent_of, draw_row
from experiments.style_transfer.loss import any_size
from experiments.style_transfer.report import write_results
from perceptual_jax.errors import InputError

__all__ = ["PRESETS", "Config", "run"]


def run(config: Config) -> dict[tuple[str, str, str], Transfer]:
    """Draws every content in every style under every distance, and writes the run's folder.

    Returns:
      `{(distance, content, style): Transfer}`; the style is "blend" where they are blended.

    Raises:
      InputError: for options that cannot be used.
      Interrupted: after Ctrl-C or SIGTERM; the run can be resumed.
    """
    config = resumed("style-transfer", config)
    check(config)
    contents = named_pictures("--content", config.content, CONTENTS)
    styles = named_pictures("--style", config.style, STYLES)
    if config.style_weights and len(config.style_weights) != len(styles):
        raise InputError(
            f"--style-weights must be one for each of the {len(styles)} styles; "
            f"got {len(config.style_weights)}"
        )
    content_distance = pj.make(config.content_distance)
    style_distances = [pj.make(spec) for spec in config.style_distance]
    for distance in (content_distance, *style_distances):
        _check_sizes(config, distance, contents, styles)
    for distance in style_distances:
        if not any_size(distance):
            console.print(
                f"{distance.name} compares place by place: styles are cropped to the content's "
                "aspect and resized to it"
            )
    folder = start("style-transfer", config, distances=(content_distance, *style_distances))
    drawn: dict[tuple[str, str, str], Transfer] = {}
    with interruptible() as asked_to_stop:
        for distance in style_distances:
            descent = descent_of(config, content_distance, distance)
            for name, content in contents.items():
                row = draw_row(
                    config, descent, content_distance, distance, (name, content), styles, folder,
                    asked_to_stop,
                )  # fmt: skip
                for style, transfer in row.items():
                    drawn[distance.name, name, style] = transfer
                    picture = "-".join(map(file_name, (name, style, distance.name)))
                    folder.write_image(f"{picture}.png", transfer.image)
    write_results(config, folder, contents, styles, drawn)
    return drawn


def _check_sizes(
    config: Config, distance: pj.Distance, contents: Pictures, styles: Pictures
) -> None:
    """Raises before the run's folder is made: weights, and pictures too small for a distance."""
    params = jax.eval_shape(distance.init, jax.random.key(0))
    for flag, pictures, side in (
        ("--content", contents, config.size),
        ("--style", styles, config.style_size or config.size),
    ):
        for name, picture in pictures.items():
            size = scales(fitted(picture, side), config.scales)[0]
            image = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
            try:
                jax.eval_shape(distance.embed, params, image)
            except InputError as error:
                raise InputError(
                    f"{flag} {name} is {size[1]}x{size[0]} at the coarsest scale: {error}"
                ) from None
