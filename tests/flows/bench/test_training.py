"""`longmill bench training` measures both ways of reading a question, over trainers that agree on the loss."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest


@pytest.mark.slow
def test_both_ways_are_measured_and_agree() -> None:
    from flows.bench.training import measure
    from flows.bench.training_case import TrainingCase

    figures = measure([TrainingCase("small", 64, (16, 14, 16, 14), loss="orpo", steps=0)])
    case = figures["cases"]["small 64/16 4 answers orpo"]
    for way in ("stock", "shared"):
        assert min(case[way][figure] for figure in ("step_s", "tokens_per_s", "peak_gb")) > 0
    assert case["speedup"] > 0 and case["predicted_speedup"] > 1
    assert case["losses_differ_by"] < 1e-4
    assert set(figures["shapes"]["small"]) == {"linear", "attention", "head", "head_everywhere"}


def test_a_way_that_runs_out_of_memory_leaves_the_other_and_no_ratio() -> None:
    from flows.bench.training_figures import compare_ways

    comparison = compare_ways({"stock": {"problem": "out of memory"}, "shared": {"step_s": 1.0, "losses": [0.5]}})
    assert comparison == {"stock": {"problem": "out of memory"}, "shared": {"step_s": 1.0}}


def test_the_plot_has_a_line_for_each_answer_and_a_dot_for_each_case() -> None:
    from flows.bench.training_plot import plot

    def case(prompt: int, answers: list[int], **more: Any) -> dict[str, Any]:
        return {"model": "small", "prompt": prompt, "answers": answers, "loss": "dpo", **more}

    figures = {
        "device": "CPU",
        "shapes": {"small": {"linear": 1e7, "attention": 1e3, "head": 1e6, "head_everywhere": False}},
        "cases": {
            "a": case(1024, [1024, 896], speedup=1.5),
            "b": case(4096, [512, 448], speedup=9.9, processor_speedup=2.5),
            "c": case(4096, [512, 448, 512, 448], speedup=3.5),
            "d": case(65536, [512, 448]),
        },
    }
    root = ET.fromstring(plot(figures))
    names = [element.tag.partition("}")[2] for element in root.iter()]
    assert names.count("polyline") == 3
    titles = [element.text for element in root.iter() if element.tag.endswith("}title")]
    assert titles == ["1024 / 1024: 1.5 x", "4096 / 512: 2.5 x"]
