"""ESC-10's classes and groups of them as concepts: does the hierarchy find the groups?

    coala-latent encode ESC-10 --output esc10.h5 --model yamnet
    python benchmarks/esc10_concepts.py esc10.h5 [other.h5 ...] [--protocol original]

Groups are given to recordings, as further concepts, and never to classes. Sources stay together.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path, PurePosixPath

from coala_latent.analysis.concept_graph import HierarchySettings
from coala_latent.store import Store
from coala_latent.tasks.concept_hierarchies import hierarchy
from coala_latent.tasks.concept_projecting import project
from coala_latent.tasks.concept_settings import compose_concepts
from coala_latent.tasks.concept_sources import ConceptSource, store_concepts
from coala_latent.tasks.concept_training import train_concepts

GROUPS = {
    "animals": ("Dog bark", "Rooster"),
    "human": ("Baby cry", "Person sneeze"),
    "nature": ("Rain", "Sea waves", "Fire crackling"),
    "machines": ("Helicopter", "Chainsaw"),
}


def write(path, lines):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)


def labels_of(store):
    """Pairs of recording and concept, from folders such as ``001 - Dog bark``."""
    with Store(store) as opened:
        names = [record.path for record in opened.files if record.rows]
    for name in names:
        kind = PurePosixPath(name).parent.name.partition(" - ")[2]
        yield name, kind
        yield from ((name, group) for group, kinds in GROUPS.items() if kind in kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("--protocol", default="calibrated")
    args = parser.parse_args()
    for store in args.stores:
        with tempfile.TemporaryDirectory() as place:
            work = Path(place)
            write(work / "labels.csv", [("recording", "concept"), *labels_of(store)])
            edges = [(group, kind) for group, kinds in GROUPS.items() for kind in kinds]
            write(work / "reference.csv", [("parent", "child"), *edges])
            source = ConceptSource(work / "labels.csv", group=r"^\d-(\d+)")
            table = store_concepts(store, source)
            train_concepts(store, table, compose_concepts(), work / "trained", quiet=True)
            vectors = work / "trained" / "concepts.safetensors"
            project(store, vectors, source, work / "projections")
            settings = HierarchySettings(protocol=args.protocol)
            told = hierarchy(
                work / "projections",
                work / "hierarchy",
                settings,
                reference=work / "reference.csv",
            )
        print(store, args.protocol)
        for edge in told["edges"]:
            print(f"    {edge['child']} lies in {edge['parent']}: {edge['strength']:.2f}")
        for name, found in told["comparison"]["graphs"].items():
            f1 = found["edges"]["f1"]
            print(f"    {name:14} F1 {f1:.2f} with {found['edges']['found']} edges")


if __name__ == "__main__":
    main()
