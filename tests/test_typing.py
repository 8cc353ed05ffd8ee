"""The shapes in annotations are checked while tests run, and cost nothing otherwise."""

import subprocess
import sys

import jax.numpy as jnp
import jaxtyping
import pytest

from perceptual_jax.ops.filters import mean_2x2


def test_a_wrong_rank_fails_the_annotation():
    with pytest.raises(jaxtyping.TypeCheckError):
        mean_2x2(jnp.zeros((4, 4, 3)))


@pytest.mark.multiprocess
def test_the_library_works_without_jaxtyping():
    """It is not among the library's dependencies."""
    program = (
        "import sys; sys.modules['jaxtyping'] = None\n"
        "import jax.numpy as jnp, perceptual_jax as pj\n"
        "print(pj.make('l2')({}, jnp.zeros((1, 4, 4, 3)), jnp.ones((1, 4, 4, 3))).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[4.0]"
