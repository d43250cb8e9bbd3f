"""Texts and marks of the pages stand out in both schemes, by the formula of WCAG 2.2 (1.4.3 and 1.4.11)."""

import re

import pytest

from flows.view.rendering import style

TEXT, MARK = 4.5, 3.0  # least ratios of level AA: for text, and for marks and borders that carry meaning
GROUNDS = ("ground", "card")
ON_GROUNDS = ("ink", "soft", "blue", "orange", "green", "yellow", "red", "violet")
ON_MARKS = (("ink", "added"), ("ink", "missing"), ("ink", "marked"), ("ink", "nearest"))
MARKS = (("blue", "ground"), ("blue", "card"), ("soft", "card"), ("soft", "ground"), ("ink", "nearest"))


def colours(scheme: str) -> dict[str, tuple[int, int, int]]:
    """The colours of a scheme by name; the dark one changes those of the light one."""
    values: dict[str, tuple[int, int, int]] = {}
    for dark, block in re.findall(r"(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", style()):
        if dark and scheme == "light":
            continue
        for name, red, green, blue in re.findall(r"--(\w+): #(\w\w)(\w\w)(\w\w)\b", block):
            if dark or scheme == "light" or name not in values:
                values[name] = (int(red, 16), int(green, 16), int(blue, 16))
    return values


def luminance(colour: tuple[int, int, int]) -> float:
    linear = []
    for channel in colour:
        share = channel / 255
        linear.append(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def ratio(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_gives_what_the_standard_says() -> None:
    assert ratio((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert ratio((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.01)  # #767676, the lightest for text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_pair_of_colours_of_the_style_sheet_stands_out(scheme: str) -> None:
    of = colours(scheme)
    pairs = [(name, ground, TEXT) for name in ON_GROUNDS for ground in GROUNDS]
    pairs += [(*pair, TEXT) for pair in ON_MARKS] + [(*pair, MARK) for pair in MARKS]
    weak = {}
    for name, ground, least in pairs:
        if ratio(of[name], of[ground]) < least:
            weak[name, ground] = round(ratio(of[name], of[ground]), 2)
    assert not weak
    named = set(re.findall(r"var\(--(\w+)\)", style()))
    assert named <= {name for pair in pairs for name in pair[:2]} | {"line"}, "a colour that no pair looks at"
