"""Half precision and compiled networks beside float32, for every model.

The errors allowed are those stated in docs/adapters.md.
"""

import shutil

import numpy as np
import pytest
import torch

from coala_latent import build_model, list_models, load_model
from coala_latent.audio.frontends import FrontEnd

# Largest difference, as a fraction of the largest value of the rows.
ALLOWED = {"bfloat16": 8e-2, "float16": 1e-2}
COMPILED = 1e-5
# Generating code takes up to a minute: a network of patches and one along the waveform.
INDUCTOR = ("musicnn-vgg-test", "soundnet5-test")

every_model = pytest.mark.parametrize("name", list_models())


@every_model
@pytest.mark.parametrize("precision", ALLOWED)
def test_half_precision_stays_within_the_stated_error(name, precision):
    exact, half = load_model(name), load_model(name, precision=precision)
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * exact.card.min_samples)
    wanted, found = (each(sound, exact.sample_rate) for each in (exact, half))
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.start, wanted.start)
    difference = np.abs(found.values - wanted.values).max() / np.abs(wanted.values).max()
    assert 0 < difference <= ALLOWED[precision]


def compiled_difference(name, backend):
    """Largest difference of any layer, as a fraction of the layer's largest value."""
    module, card = build_model(name)
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(250_000, generator=generator)
    if isinstance(module.front_end, FrontEnd):
        heard = module.front_end(waveform)[:, None]
    else:
        heard = module.front_end(waveform[None])
    layers = tuple(card.layers)
    torch.compiler.reset()
    compiled = torch.compile(module.network.activations, backend=backend, fullgraph=True)
    with torch.inference_mode():
        wanted, found = module.network.activations(heard, layers), compiled(heard, layers)
    assert wanted.keys() == found.keys() == set(layers)
    return max(
        float((found[layer] - values).abs().max() / values.abs().max())
        for layer, values in wanted.items()
    )


@every_model
def test_a_network_is_one_graph_for_a_compiler(name):
    # Traced and rewritten as by the default backend, but without its code generation.
    assert compiled_difference(name, "aot_eager") <= COMPILED


@pytest.mark.slow
@pytest.mark.parametrize("name", INDUCTOR)
def test_a_compiled_network_gives_the_same_layers(name):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    assert compiled_difference(name, "inductor") <= COMPILED
