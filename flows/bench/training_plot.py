"""The plot of the training benchmark: how much faster a step is by the length of its prompt, as an SVG.

`python -m flows.bench.training_plot FIGURES.json > docs/training.svg`, where FIGURES.json is what
`longmill bench training` printed. Lines are predicted from lengths (tasks/training/shared_prefix/cost.py) for the
first model of the figures, dots are measured. It follows the reader's light or dark setting. Leaves out: other losses,
and questions of more than two answers.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PROMPTS = (512, 65536)  # tokens, on an axis of powers of two
_ANSWERS = {128: "#2f8f5b", 512: "#2f6db3", 1024: "#d9762b"}
_BOX = (64, 48, 560, 300)  # left, top, width, height of the axes
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#343a40}.grid{stroke:#a0a9b2;stroke-opacity:.35}"
    ".even{stroke:#8a929c;stroke-dasharray:5 4}.line{fill:none;stroke-width:2.2}.dot{stroke:#fff;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e9ec}.dot{stroke:#15181b}}"
)


def plot(figures: Mapping[str, Any]) -> str:
    """The SVG of what `flows.bench.training.measure` returned."""
    from tasks.training.shared_prefix.cost import ModelCost

    cases = []
    for case in figures["cases"].values():
        if case["loss"] == "dpo" and len(case["answers"]) == 2:
            cases.append(case)
    model = cases[0]["model"]
    points: list[tuple[int, int, float]] = []
    for case in cases:
        value = speedup(case)
        if case["model"] == model and value:
            points.append((case["prompt"], case["answers"][0], value))
    cost = ModelCost(**figures["shapes"][model])
    values = [value for _, _, value in points]
    lines = {}
    for answer in _ANSWERS:
        lines[answer] = list(_predicted(answer, cost))
        values += [value for _, value in lines[answer]]
    top = math.ceil(max(values))
    parts = list(_axes(top))
    for answer, line in lines.items():
        parts.append(_line(answer, line, top))
    for prompt, answer, value in points:
        parts.append(
            f'<circle class="dot" cx="{_x(prompt):.1f}" cy="{_y(value, top):.1f}" r="6" '
            f'fill="{_ANSWERS.get(answer, "#8a929c")}"><title>{prompt} / {answer}: {value:g} x</title></circle>'
        )
    parts += _legend(figures["device"], model)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 420" role="img" '
        f'aria-label="speed-up by prompt length"><style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def speedup(case: Mapping[str, Any]) -> float | None:
    """The measured speed-up: by processor seconds where there are some, else by the clock; None without both ways."""
    value: float | None = case.get("processor_speedup", case.get("speedup"))
    return value


def _predicted(answer: int, cost: Any) -> Iterable[tuple[float, float]]:
    from tasks.training.shared_prefix.cost import predicted_speedup
    from tasks.training.shared_prefix.layout import Tree

    first, last = map(math.log2, _PROMPTS)
    for step in range(57):
        prompt = round(2 ** (first + (last - first) * step / 56))
        yield prompt, predicted_speedup([Tree(prompt, (answer, answer - answer // 8))], cost)


def _x(prompt: float) -> float:
    left, _, width, _ = _BOX
    first, last = map(math.log2, _PROMPTS)
    return left + width * (math.log2(prompt) - first) / (last - first)


def _y(value: float, top: int) -> float:
    _, upper, _, height = _BOX
    return upper + height * (1 - value / top)


def _axes(top: int) -> Iterable[str]:
    left, upper, width, height = _BOX
    for value in range(top + 1):
        kind = "even" if value == 1 else "grid"
        at = _y(value, top)
        yield f'<line class="{kind}" x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{left - 10}" y="{at + 4:.1f}" text-anchor="end">{value} ×</text>'
    prompt = _PROMPTS[0]
    while prompt <= _PROMPTS[1]:
        label = f"{prompt // 1024}k" if prompt >= 1024 else str(prompt)
        yield f'<text x="{_x(prompt):.1f}" y="{upper + height + 22}" text-anchor="middle">{label}</text>'
        prompt *= 2
    yield f'<text x="{left + width / 2}" y="{upper + height + 46}" text-anchor="middle">prompt, tokens</text>'


def _line(answer: int, line: Iterable[tuple[float, float]], top: int) -> str:
    points = []
    for prompt, value in line:
        points.append(f"{_x(prompt):.1f},{_y(value, top):.1f}")
    return f'<polyline class="line" stroke="{_ANSWERS[answer]}" points="{" ".join(points)}"/>'


def _legend(device: str, model: str) -> Iterable[str]:
    left, upper, width, _ = _BOX
    yield (
        f'<text x="{left}" y="24">A step is so many times faster when its prompt is read once '
        f"({model} model, {device})</text>"
    )
    for number, (answer, colour) in enumerate(_ANSWERS.items()):
        at = upper + 16 + 22 * number
        yield f'<rect x="{left + width + 14}" y="{at - 9}" width="12" height="4" fill="{colour}"/>'
        yield f'<text x="{left + width + 32}" y="{at}">{answer}</text>'
    yield f'<text x="{left + width + 14}" y="{upper + 4 + 22 * 4}">tokens of</text>'
    yield f'<text x="{left + width + 14}" y="{upper + 20 + 22 * 4}">the answer</text>'


def main() -> None:
    """Draw the figures of the file that is named."""
    figures = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.stdout.write(plot(figures.get("training", figures)))


if __name__ == "__main__":
    main()
