"""The report of an analysis of factors, as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coala_latent.viewer.page import Page

__all__ = ["factor_page"]

_Results = Mapping[str, Any]
_Figures = Mapping[str, bytes]
_TELLING = frozenset({"own_class - other_class", "residual - swap"})


def factor_page(results: _Results, figures: _Figures) -> Page:
    """Build the page.

    Args:
        results: What the stages wrote, by name: ``recordings`` (None for finished latents),
            ``layers``, ``exploration``, ``flow``, ``measures``, ``transfer`` (None likewise),
            ``settings``, ``stages`` and ``versions``.
        figures: PNGs by name; those that are missing are left out.

    Returns:
        The page, to be written.
    """
    factors = list(results["exploration"])
    page = Page(f"Factors of sound: {' and '.join(factors)}", _subtitle(results))
    _overview(page, results, factors)
    _layers(page, results, figures)
    _exploration(page, results["exploration"], figures)
    _flow(page, results, figures)
    _measures(page, results["measures"], figures, factors)
    if results["transfer"] is not None:
        _transfer(page, results, figures)
    _reproduction(page, results)
    return page


def _subtitle(results: _Results) -> str:
    model, layer = results["layers"].get("model"), (results["transfer"] or {}).get("layer")
    if model is None:
        return "Finished latents"
    return f"{model}, {layer}" if layer else str(model)


def _overview(page: Page, results: _Results, factors: Sequence[str]) -> None:
    page.section("Overview")
    eta = results["measures"]["eta_squared"]
    page.text(
        "A block of the code belongs to a factor when the factor's classes explain much of its "
        "scatter and other factors' classes little. All figures are of recordings that neither "
        "projection nor flow was fitted to."
    )
    rows = [
        [factor, block, eta[block][factor]["mean"], _ends(eta[block][factor])]
        for factor in factors
        for block in eta
    ]
    page.table(
        ["factor", "block", "eta squared", "95 % interval"],
        rows,
        "Share of a block's scatter between the classes of a factor, held out",
    )
    recordings = results["recordings"]
    if recordings is not None:
        page.pairs(
            {
                "recordings": len(recordings["names"]),
                "for training": sum(recordings["train"]),
                **{
                    factor: ", ".join(names)
                    for factor, names in zip(
                        recordings["factors"], recordings["classes"], strict=True
                    )
                },
            }
        )
        left_out = {**recordings["unmatched"], **results["layers"]["skipped"]}
        if left_out:
            page.note(f"{len(left_out)} files were left out.")
            page.table(["file", "reason"], [list(each) for each in left_out.items()])
        if recordings["missing"]:
            page.note(
                "Not recorded: " + ", ".join(" ".join(each) for each in recordings["missing"])
            )


def _layers(page: Page, results: _Results, figures: _Figures) -> None:
    layers = results["layers"]["layers"]
    if results["recordings"] is None:
        return
    page.section("Layers")
    page.text(
        "Rows of each layer are standardised, projected on principal components and standardised "
        f"again, fitted on {results['layers']['fitted_rows']} rows of the training recordings, "
        "without labels."
    )
    for name, caption in (
        ("dimensions", "Values in a row of each layer"),
        ("explained", "Share of the variance that the components keep"),
    ):
        _figure(page, figures, name, caption)
    with page.details("As a table"):
        page.table(
            ["layer", "values", "components", "variance kept"],
            [
                [layer, about["values"], len(about["explained_variance_ratio"]), about["explained"]]
                for layer, about in layers.items()
            ],
        )


def _exploration(page: Page, found: _Results, figures: _Figures) -> None:
    page.section("Which layer knows what")
    for factor, about in found.items():
        page.text(f"{factor}: {about['folds']}.")
    _figure(
        page,
        figures,
        "layers",
        "Nearest neighbours by layer, a box over folds; dotted: chance; coloured: best; "
        "* joins layers that differ with p < 0.05 after Holm's correction",
    )
    _figure(page, figures, "planes", "t-SNE of the first, the best and the last layer")
    for factor, about in found.items():
        for kind, title in (
            ("knn", "nearest neighbours"),
            ("linear", "logistic regression"),
            ("original", "LatentAudio's protocol"),
        ):
            if kind not in about:
                continue
            each = about[kind]
            with page.details(f"{factor}, {title}: best {each['best']}"):
                if each["leaky"]:
                    page.note(f"Leaks: {each['why']}.")
                _scores(page, each)


def _scores(page: Page, each: _Results) -> None:
    scores = each["scores"]
    page.table(
        ["layer", "accuracy", "95 % interval"],
        [[name, found["mean"], _ends(found)] for name, found in scores["intervals"].items()],
        f"Chance: {each['chance']:.3f}",
    )
    page.table(
        ["comparison", "difference", "95 % interval", f"p ({scores['correction']})"],
        [
            [name, test["difference"], _ends(test["interval"]), scores["p_corrected"][name]]
            for name, test in scores["comparisons"].items()
        ],
        "The best layer is the one that is best on these folds, and favoured by it"
        if each["favours_best"]
        else "In each fold the best layer is the one that is best within the training rows: "
        + ", ".join(each["chosen"]),
    )


def _flow(page: Page, results: _Results, figures: _Figures) -> None:
    flow = results["flow"]
    page.section("The flow")
    page.pairs(
        {
            "blocks": ", ".join(
                f"{each['name']} {each['dims']}" for each in flow["spec"]["blocks"]
            ),
            **{name: value for name, value in flow["flow"].items() if name != "seed"},
            "rows": f"{results['measures']['rows']['train']} for training, "
            f"{results['measures']['rows']['held_out']} held out",
            "epochs": flow["training"]["epochs"],
        }
    )
    _figure(page, figures, "losses", "Loss a pair, mean and two standard errors")
    _figure(
        page, figures, "blocks", "First dimensions of two blocks, held out, with boxes by class"
    )
    _figure(
        page, figures, "stages", "How far each stage moves a row: its tangent at 0, and the rest"
    )


def _measures(page: Page, found: _Results, figures: _Figures, factors: Sequence[str]) -> None:
    page.section("How well the factors are apart")
    _figure(page, figures, "eta", "Share of scatter between classes, by block; coloured: its own")
    page.table(
        ["factor", "block", "held out", "training", "shuffled labels, 95 % quantile"],
        [
            [
                factor,
                block,
                found["eta_squared"][block][factor]["mean"],
                found["train_eta_squared"][factor][block],
                found["shuffled_eta_squared"][factor][block],
            ]
            for factor in factors
            for block in found["eta_squared"]
        ],
        "Eta squared; shuffled: whole recordings with the labels of others",
    )
    page.table(
        ["factor", "information gap", "95 % interval", "forest's accuracy", "largest class"],
        [
            [
                factor,
                found["information"][factor]["gap"]["mean"],
                _ends(found["information"][factor]["gap"]),
                found["informativeness"][factor]["mean"],
                found["chance"][factor],
            ]
            for factor in factors
        ],
        "Mutual information gap of the blocks, and what a random forest reads from the code",
    )
    page.table(
        ["of", *found["dci"]["blocks"]],
        [[name, *values.values()] for name, values in found["dci"].items()],
        "Disentanglement and completeness (Eastwood and Williams, 2018)",
    )
    for factor, swap in found["swaps"].items():
        page.table(
            ["rows", "accuracy", "95 % interval"],
            [[name, each["mean"], _ends(each)] for name, each in swap["intervals"].items()],
            f"{factor}: neighbours of held-out rows as they are, with another row's block and its "
            "label (consistent), and with a third row's label (inconsistent)",
        )
    page.pairs(
        {
            "round trip, largest error": found["round_trip"].get("max"),
            "suggested dimensions": ", ".join(
                f"{name} {dims}" for name, dims in found["suggested_dims"].items()
            ),
        }
    )


def _transfer(page: Page, results: _Results, figures: _Figures) -> None:
    page.section("What the network hears")
    found = results["transfer"]
    if "left_out" in found:
        page.note(f"Left out: {found['left_out']}.")
        return
    page.text(
        f"Latents of {found['layer']} are edited in the code and go on through the network. A "
        "receptor that differs from its donor in one factor gets the donor's block; its logits are "
        "compared with the donor's. Everything outside the components is kept."
    )
    _effects(page, found["pairs"], figures)
    if found["pairs"]["changes"]:
        page.table(
            ["factor", "output", "donor's class", "change of the logit", "95 % interval"],
            [
                [condition, output, name, each["mean"], _ends(each)]
                for condition, outputs in found["pairs"]["changes"].items()
                for output, classes in outputs.items()
                for name, each in classes.items()
            ],
            "Mean change of single outputs by the swap",
        )
    page.heading("Triplets")
    if "left_out" in found["triplets"]:
        page.note(f"Left out: {found['triplets']['left_out']}.")
    else:
        page.text(
            "Rows between two classes get the block of a row of their own class, and of the other; "
            "the first should come nearer to that row, the second go away."
        )
        _tests(page, found["triplets"])


def _effects(page: Page, report: _Results, figures: _Figures) -> None:
    _figure(page, figures, "distances", "Distance of logits to the donor's, 95 % intervals")
    _figure(page, figures, "interpolation", "From the receptor's own block to the donor's")
    _tests(page, report)
    page.table(
        ["condition", "pairs", "largest change of a logit without an edit", "negative values"],
        [
            [
                condition,
                count,
                report["no_edit_error"][condition],
                report["negative"][condition].get("swap"),
            ]
            for condition, count in report["n"].items()
        ],
        "Control: the way there and back; share of negative values after a swap, "
        + ("set to 0" if report["clamped"] else "left as they are"),
    )


def _tests(page: Page, report: _Results) -> None:
    if any(name in _TELLING for tests in report["tests"].values() for name in tests):
        page.text(
            "Any value of a donor brings a receptor somewhat nearer to it. Two contrasts tell "
            "more: the block of another row of the donor's class against one of the receptor's "
            "own, and a random step of the same length in the residual."
        )
        _contrasts(page, report, _TELLING, "What the class explains, and what its direction does.")
        with page.details("All contrasts"):
            _contrasts(page, report, None, "Before and after, controls, and the two from above.")
    else:
        _contrasts(page, report, None, "Corrected for all contrasts together.")


def _contrasts(page: Page, report: _Results, chosen: frozenset[str] | None, caption: str) -> None:
    page.table(
        [
            *("condition", "contrast", "difference", "95 % interval"),
            *("p (Holm)", "rank-biserial", "95 % interval"),
        ],
        [
            [
                *(condition, contrast.replace("_", " ")),
                *(test["difference"]["mean"], _ends(test["difference"])),
                *(test["p_corrected"], test["rank_biserial"]["mean"]),
                _ends(test["rank_biserial"]),
            ]
            for condition, tests in report["tests"].items()
            for contrast, test in tests.items()
            if chosen is None or contrast in chosen
        ],
        f"{caption} Differences of distances; positive where the second is nearer to the donor. "
        "One value a group of recordings",
    )


def _reproduction(page: Page, results: _Results) -> None:
    page.section("How to get this again")
    page.pairs(results["versions"])
    page.table(
        ["stage", "seconds", "key"],
        [[name, each["seconds"], each["key"][:16]] for name, each in results["stages"].items()],
    )
    with page.details("Settings"):
        page.pairs(_flat(results["settings"]))


def _flat(tree: _Results, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found


def _figure(page: Page, figures: _Figures, name: str, caption: str) -> None:
    if name in figures:
        page.figure(figures[name], caption)


def _ends(interval: _Results) -> str:
    low, high = interval["low"], interval["high"]
    return "\u2013" if low is None or high is None else f"{low:.3f} .. {high:.3f}"
