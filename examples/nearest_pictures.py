"""The pictures of a folder that are nearest to one of them, or to another, under any distance.

python examples/nearest_pictures.py my/photos --query my/photos/cat.png --distance lpips-alex
python examples/nearest_pictures.py my/photos --query sketch.png --distance "vgg16(metric='gram')"

Every picture is embedded once, and what is embedded is compared in bounded memory: a query costs
one more embedding, not a pass of the network for every picture.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import perceptual_jax as pj


def read(path: Path, side: int) -> np.ndarray:
    """The centre square of a picture, resized: uint8 [side, side, 3]."""
    picture = pj.images.read(path, background=(255, 255, 255))
    height, width = picture.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    return pj.images.resize(picture[top : top + edge, left : left + edge], side)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--query", required=True)
    parser.add_argument("--distance", default="lpips-alex", help="of the catalogue; or a call")
    parser.add_argument("--side", type=int, default=64, help="pictures are resized to it")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--out", help="also write the query and its nearest to this picture")
    options = parser.parse_args(arguments)

    distance = pj.make(options.distance)
    params = distance.init(jax.random.key(0))
    embed = jax.jit(distance.embed)

    query = Path(options.query)
    pictures = {}
    for path in pj.images.find(options.folder):
        try:
            if path.resolve() != query.resolve():
                pictures[path] = read(path, options.side)
        except pj.InputError as error:
            print(f"left out: {error}", file=sys.stderr)
    files, images = list(pictures), np.stack(list(pictures.values()))

    parts = []
    for start in range(0, len(files), 32):
        some = images[start : start + 32]
        count = len(some)
        filled = np.concatenate([some, np.repeat(some[:1], 32 - count, axis=0)])
        parts.append(jax.tree.map(lambda leaf, n=count: leaf[:n], embed(params, filled)))
    embedded = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    asked = embed(params, read(query, options.side)[None])
    found = np.asarray(pj.pairwise(distance, params, asked, embedded)[0])
    nearest = np.argsort(found)[: options.count]
    for place in nearest:
        print(f"{found[place]:.4f}  {files[place]}")
    if options.out:
        row = [read(path, 160) for path in (query, *(files[place] for place in nearest))]
        pj.images.write(options.out, pj.images.grid([row]))
    return [files[place] for place in nearest]


if __name__ == "__main__":
    main()
