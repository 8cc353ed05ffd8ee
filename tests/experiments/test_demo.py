"""`perceptual-jax demo`: distortions of equal size, and how losses choose between them."""

import numpy as np
import pytest

from experiments.common.choices import agreement, compare_distortions, distorted_picture
from experiments.common.data import EMBEDDED
from experiments.common.distortions import DISTORTIONS, equally_far


@pytest.mark.parametrize("name", EMBEDDED[:2])
def test_all_distortions_are_equally_far(name):
    original, distorted = distorted_picture(name)
    assert list(distorted) == list(DISTORTIONS)
    for damaged in distorted.values():
        assert damaged.min() >= 0
        assert damaged.max() <= 1
        far = np.sqrt(np.square(damaged - original).mean())
        assert far == pytest.approx(0.055, rel=1e-3)


def test_a_strength_that_comes_in_steps_is_made_up_for():
    image = np.full((8, 8, 3), 0.5, np.float32)
    found = equally_far(image, lambda x, strength: x + round(5 * strength) / 10, 0.123)
    np.testing.assert_allclose(found, 0.623, rtol=1e-5)


def test_agreement_counts_choices():
    """One distance chooses as people do, one the other way around, one cannot choose."""
    order = {name: float(place) for place, name in enumerate(DISTORTIONS)}
    picture = {
        name: {"people": 1 + place, "reversed": 9 - place, "blind": 1 + 1e-4 * place}
        for name, place in order.items()
    }
    found = agreement(["people", "reversed", "blind"], [picture, picture])
    mild = list(DISTORTIONS)[:3]
    assert list(found["people"]) == [*mild, "all"]
    assert [set(row.values()) for row in found.values()] == [{1.0}, {0.0}, {0.5}]


def test_every_distortion_is_scored():
    original = np.zeros((4, 4, 3))
    distorted = {"a": original + 1, "b": original + 2}
    found = compare_distortions(
        lambda x, y: {"mean": (y - x).mean(axis=(1, 2, 3))}, original, distorted
    )
    assert found == {"a": {"mean": 1.0}, "b": {"mean": 2.0}}
