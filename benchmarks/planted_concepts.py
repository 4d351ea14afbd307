"""How well planted hierarchies of 60 concepts are found, beside graphs without a tree.

    python benchmarks/planted_concepts.py [--seeds 10] [--shuffles 300] [--large 3443]

50 recordings a concept (or a leaf) at cosine distance 0.3 from what they should be, balanced
logistic regressions on 70 % of them, the rest projected. Told are mean and lowest F1 of the edges,
how many hierarchies of shuffled labels have any edge, and the seconds that a hierarchy of many
concepts takes, of which 11 % of the pairs are linked.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from coala_latent.analysis.concept_baselines import flat_baselines
from coala_latent.analysis.concept_graph import (
    HierarchySettings,
    concept_graph,
    graph_of_projections,
)
from coala_latent.analysis.concept_projections import project_concepts
from coala_latent.analysis.concept_taxonomy import compare_taxonomies
from coala_latent.analysis.planted_concepts import planted_concepts

SHAPES = ((6, 3, 2), (4, 2, 6))
NAMES = [str(number) for number in range(60)]


def logistic(rows, members):
    fitted = [
        LogisticRegression(class_weight="balanced", max_iter=200).fit(rows, of) for of in members.T
    ]
    return np.array([f.coef_[0] for f in fitted]), np.array([f.intercept_[0] for f in fitted])


def mean_difference(rows, members):
    inside = (members.T @ rows) / members.sum(0)[:, None]
    outside = (~members.T @ rows) / (~members).sum(0)[:, None]
    weight = 20 * (inside - outside)
    return weight, -(weight * (inside + outside)).sum(1) / 2


def projected(rows, members, heads, seed):
    test = np.random.default_rng(seed).random(len(rows)) < 0.3
    weight, bias = heads(rows[~test], members[~test])
    return project_concepts([(rows[test], np.arange(test.sum()))], members[test], weight, bias)


def graphs(projections, seed):
    original = HierarchySettings(protocol="original")
    return {
        "calibrated": graph_of_projections(NAMES, projections).tree.edges,
        "original": graph_of_projections(NAMES, projections, original).tree.edges,
        **flat_baselines(projections.similarity, seed),
    }


def large(count):
    """Seconds of both protocols on similarities at random, 11 % of them above 0.5."""
    similarity = np.random.default_rng(0).random((count, count)) ** (np.log(0.5) / np.log(0.89))
    names = [str(number) for number in range(count)]
    for protocol in ("calibrated", "original"):
        begin = time.perf_counter()
        graph = concept_graph(names, similarity, settings=HierarchySettings(protocol=protocol))
        told = f"{time.perf_counter() - begin:.1f} s, density {graph.density:.2f}"
        print(f"{count} concepts, {protocol}: {told}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shuffles", type=int, default=300)
    parser.add_argument("--large", type=int, default=3443)
    args = parser.parse_args()
    large(args.large)
    for shape in SHAPES:
        for complete in (False, True):
            found = {}
            for seed in range(args.seeds):
                planted = planted_concepts(shape, complete=complete, seed=seed)
                sums = projected(planted.embeddings, planted.membership, logistic, seed)
                for name, edges in graphs(sums, seed).items():
                    agreed = compare_taxonomies(edges, planted.edges, len(NAMES)).edges
                    found.setdefault(name, []).append(agreed.f1)
            print(shape, "all labels" if complete else "one label a recording", flush=True)
            for name, scores in found.items():
                print(f"    {name:14} {np.mean(scores):.3f} (lowest {min(scores):.2f})")
    planted, rng = planted_concepts(seed=0), np.random.default_rng(0)
    edges = 0
    for seed in range(args.shuffles):
        shuffled = planted.membership[rng.permutation(len(planted.membership))]
        sums = projected(planted.embeddings, shuffled, mean_difference, seed)
        edges += len(graph_of_projections(NAMES, sums).tree.edges) > 0
    print(f"shuffled labels: {edges} of {args.shuffles} hierarchies have an edge")


if __name__ == "__main__":
    main()
