"""Draws judgements.png, which `two-afc` draws of its scores, from the table in judgements.md.

python -m docs.figures.judgements
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from experiments.two_afc.report import score_figure
from experiments.two_afc.scores import Scores
from perceptual_jax.statistics import Interval

OUT = Path(__file__).parent / "judgements.png"
PAGE = Path(__file__).parent.parent / "judgements.md"
ROW = re.compile(r"^\| `(.+)` \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|$", re.MULTILINE)
PEOPLE = re.compile(r"^\| people \| ([\d.]+) \|", re.MULTILINE)


def main() -> None:
    """Draws the figure."""
    text = PAGE.read_text(encoding="utf-8")
    people = PEOPLE.search(text)
    assert people is not None, f"{PAGE.name} does not say what people score"
    # The first table: those after it are of other data.
    rows = ROW.findall(text[: people.start()])
    mean, low, high = np.array([row[1:] for row in rows], float).T
    found = Interval(mean, low, high)
    scores = Scores(
        tuple(row[0] for row in rows),
        parts=("all",),
        scores={"all": found},
        ceiling={"all": float(people[1])},
        differences=Interval(*(part[:, None] - part for part in found)),
    )
    score_figure(scores, "2afc", human=True).savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
