"""`longmill agreement DATASET --weights`: weights of scorers, learnt from references or people's labels."""

from rich.text import Text

from flows.cli.display import console, finish, table
from tasks.reporting.tables import Rows


def show_weights(dataset: str, labels: str, as_json: bool) -> None:
    """Learn weights on half of a dataset's contexts, measure them on the other half, and print both."""
    from tasks.reporting.learnt_weights import weights_view

    view = weights_view(dataset, labels)
    if not as_json:
        rows = [[name, f"{weight:g}"] for name, weight in view["weights"].items()]
        console.print(table(f"weights, learnt on {view['learnt_on']:,} questions", ["scorer", "weight"], rows))
        if view["picks"]:
            console.print(Text(""))
            title = f"the answer that is picked, by the references, on {view['measured_on']:,} other questions"
            console.print(table(title, *_pick_rows(view["picks"])))
        console.print(Text("\nin the recipe: scoring.scorers, as `weight` of each"))
    finish(as_json, view, [])


def _pick_rows(picks: dict[str, dict[str, float]]) -> Rows:
    rows = []
    for name, figure in picks.items():
        form = "+.1f" if " - " in name else ".1f"
        low, value, high = (format(100 * figure[bound], form) for bound in ("low", "value", "high"))
        rows.append([name, value, f"[{low}, {high}]"])
    return ["weights", "%", "95% interval"], rows
