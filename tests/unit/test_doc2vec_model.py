"""Model and losses of document vectors beside NumPy written from the description of sound-eval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coala_latent.errors import ConfigError
from coala_latent.models.doc2vec import Doc2Vec, words_heard


def perceptron(model: Doc2Vec, which: str, x: np.ndarray) -> np.ndarray:
    net = getattr(model, which)
    w1, b1, w2, b2 = (
        each.detach().double().numpy()
        for each in (net.relu.weight, net.relu.bias, net.soft.weight, net.soft.bias)
    )
    return np.maximum(x @ w1.T + b1, 0) @ w2.T + b2


def draw(rng, n=24, bands=7, documents=5):
    document = rng.integers(0, documents, n)
    return document, rng.normal(-5, 3, (n, bands)), rng.normal(-5, 3, (n, bands))


def tensors(document, a, b):
    return torch.from_numpy(document), torch.from_numpy(a).float(), torch.from_numpy(b).float()


def test_compat_loss_is_the_originals(rng):
    model = Doc2Vec(5, 7, 11, 6, compat=True, seed=3)
    document, a, b = draw(rng)
    v = model.documents.detach().double().numpy()[document]
    logit = 0.1 * ((perceptron(model, "origin", a) + v) * perceptron(model, "cross", b)).mean(1)
    label = np.r_[np.zeros(12), np.ones(12)]  # 1: from anywhere
    p = 1 / (1 + np.exp(-logit))
    wanted = -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean()
    found = model.original_loss(*tensors(document, a, b))
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_compat_gradient_makes_neighbours_products_negative(rng):
    model = Doc2Vec(1, 4, 8, 3, compat=True)
    a, b = (torch.randn(2, 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        model.original_loss(torch.zeros(2, dtype=torch.long), a, b).backward()
        optimizer.step()
    product = ((model.word_vectors(a) + model.documents) * model.context_vectors(b)).sum(1)
    assert product[0] < 0 < product[1]
    assert (model.pair_scores(model.word_vectors(a), model.context_vectors(b))[0]) > 0


def test_default_loss_compares_with_frames_of_other_recordings_of_the_group(rng):
    model = Doc2Vec(5, 7, 11, 6, seed=1)
    torch.nn.init.normal_(model.documents)
    mean, std = rng.normal(-5, 1, 7), rng.uniform(1, 4, 7)
    model.standardise_(torch.from_numpy(mean), torch.from_numpy(std))
    document, a, b = draw(rng)
    v = model.documents.detach().double().numpy()
    u = perceptron(model, "origin", (a - mean) / std) + v[document]
    w = perceptron(model, "cross", (b - mean) / std)
    near, far = [], []
    for i in range(24):
        near.append(np.log1p(np.exp(-(u[i] @ w[i]) / np.sqrt(6))))
        first = i // 8 * 8
        far += [
            np.log1p(np.exp(u[i] @ w[j] / np.sqrt(6)))
            for j in range(first, first + 8)
            if document[i] != document[j]
        ]
    wanted = (np.mean(near) + np.mean(far)) / 2 + 0.3 / 2 * (v[document] ** 2).sum(1).mean()
    found = model.loss(*tensors(document, a, b), group=8, prior=0.3)
    assert float(found) == pytest.approx(wanted, rel=1e-4)


def test_pairs_without_word_have_the_document_vector_alone(rng):
    model = Doc2Vec(5, 7, 11, 6, seed=1)
    torch.nn.init.normal_(model.documents)
    document, a, b = tensors(*draw(rng))
    near, *_ = model.grouped_scores(document, a, b, 8, word_dropout=0.25)
    words = model.word_vectors(a)
    words[3::4] = 0
    wanted = model.pair_scores(words + model.documents[document], model.context_vectors(b))
    assert torch.allclose(near, wanted, atol=1e-6)
    assert words_heard(5, 0.0, torch.device("cpu")).all()
    assert not words_heard(5, 1.0, torch.device("cpu")).any()


def test_a_group_of_one_recording_has_no_false_pairs(rng):
    model = Doc2Vec(2, 4, 5, 3)
    document, a, b = draw(rng, 8, 4, 1)
    loss = model.loss(*tensors(document, a, b), group=4)
    near, *_ = model.grouped_scores(*tensors(document, a, b), 4)
    assert float(loss) == pytest.approx(float(torch.nn.functional.softplus(-near).mean() / 2))


def test_compat_starts_with_the_originals_distributions():
    model = Doc2Vec(3000, 64, 128, 32, compat=True)
    power = np.sqrt(0.5)
    for net in (model.origin, model.cross):
        assert float(net.relu.weight.detach().std()) == pytest.approx(64**-power, rel=0.05)
        assert float(net.soft.weight.detach().std()) == pytest.approx(128**-power, rel=0.05)
        for layer in (net.relu, net.soft):
            assert 0.6 < float(layer.bias.detach().std()) < 1.4
    assert float(model.documents.detach().std()) == pytest.approx(1 / 32, rel=0.05)
    assert not torch.equal(model.origin.relu.weight, model.cross.relu.weight)
    count = sum(p.numel() for name, p in model.named_parameters() if name != "documents")
    assert count == 24_896


def test_default_starts_knowing_little(rng):
    model = Doc2Vec(4, 64)
    document, a, b = (rng.integers(0, 4, 256), *rng.normal(0, 1, (2, 256, 64)))
    assert float(model.loss(*tensors(document, a, b))) == pytest.approx(np.log(2), abs=0.05)
    assert not model.documents.detach().any()


def test_seeds_decide_the_first_weights():
    one, same, other = (Doc2Vec(2, 3, seed=s, compat=True).documents for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_step_touches_only_the_batchs_documents_unless_compat():
    for compat, kind in ((False, torch.sparse_coo), (True, torch.strided)):
        model = Doc2Vec(100, 3, compat=compat)
        model.document_vectors(torch.tensor([5, 7, 5])).sum().backward()
        grad = model.documents.grad
        assert grad is not None
        assert grad.layout == kind
        assert grad.to_dense()[:, 0].nonzero().flatten().tolist() == [5, 7]


def test_senseless_sizes_and_scaling_of_compat_are_refused():
    with pytest.raises(ConfigError, match="dim=0"):
        Doc2Vec(1, 2, dim=0)
    with pytest.raises(ConfigError, match="compat"):
        Doc2Vec(1, 2, compat=True).standardise_(torch.zeros(2), torch.ones(2))
