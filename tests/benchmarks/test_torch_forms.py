"""The peers that ours are timed against compute the same distance."""

import jax
import numpy as np
import pytest
import torch

import perceptual_jax as pj
from benchmarks import torch_forms
from benchmarks.ours import images

pytestmark = pytest.mark.usefixtures("weights_store")

DRAWN = ("mmd++", "mmd-rff", "swd")  # Each with numbers of its own: near, not equal.


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", torch_forms.DISTANCES)
def test_torch_forms_are_ours(name, layout):
    torch.manual_seed(0)
    x, y = images(2, 64)
    y = 0.5 * x + 0.5 * y
    distance = pj.make(name)
    wanted = distance(distance.init(jax.random.key(0)), x, y)
    with torch.no_grad():
        got = torch_forms.DISTANCES[name](layout)(torch_forms.tensor(x), torch_forms.tensor(y))
    np.testing.assert_allclose(got, wanted, rtol=0.1 if name in DRAWN else 1e-5)
