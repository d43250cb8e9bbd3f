"""verl and other trainers with verifiable rewards: a row for each question, with its ground truth.

`reward.py` goes along: it holds SubEM as Longmill measures it and `compute_score`, with the arguments that verl gives.
A question without a usable reference has no verifiable reward, and a multiple-choice one needs another function: both
are left out.
"""

import inspect

import pyarrow as pa

from tasks import sub_em
from tasks.exporting.shape import Converted, ExportedSplits, Pairs, Shape
from tasks.metrics import CHOICE, LIST

REWARD_FUNCTION = "compute_score"
_FUNCTION = f'''

def {REWARD_FUNCTION}(data_source, solution_str, ground_truth, extra_info=None):
    """1.0 where a reference occurs in the answer, else 0.0; of a list question all of its items must."""
    references = [ground_truth] if isinstance(ground_truth, str) else list(ground_truth)
    if (extra_info or {{}}).get("kind") != "{LIST}":
        return sub_em(solution_str, references) or 0.0
    scores = [sub_em(solution_str, [item]) for item in references]
    return min((score for score in scores if score is not None), default=0.0)
'''


def _convert(pairs: Pairs, split: str) -> Converted:
    converted = Converted()
    pair = pairs[0]
    if pair["kind"] == CHOICE:
        converted.left_out["multiple_choice"] += 1
    elif not any(map(sub_em.normalised_tokens, pair["references"])):
        converted.left_out["no_reference"] += 1
    else:
        extra = {name: pair[name] for name in ("example_id", "question", "kind", "language")}
        row = {
            "data_source": f"longmill/{REWARD_FUNCTION}",
            "prompt": pair["prompt"],
            "ability": "long-context-qa",
            "reward_model": {"style": "rule", "ground_truth": pair["references"]},
            "extra_info": {"split": split, "reward_function": REWARD_FUNCTION, **extra},
        }
        converted.rows.append(row)
    return converted


def _schema(source: pa.Schema) -> pa.Schema:
    text = pa.string()
    extra = ("split", "reward_function", "example_id", "question", "kind", "language")
    return pa.schema(
        [
            ("data_source", text),
            ("prompt", pa.list_(pa.struct([("role", text), ("content", text)]))),
            ("ability", text),
            ("reward_model", pa.struct([("style", text), ("ground_truth", pa.list_(text))])),
            ("extra_info", pa.struct([(name, text) for name in extra])),
        ]
    )


def _beside(exported: ExportedSplits) -> dict[str, str]:
    return {"reward.py": inspect.getsource(sub_em) + _FUNCTION}


SHAPE = Shape(
    "verl",
    "verl and others with verifiable rewards: questions with ground truth, and reward.py",
    "questions",
    _convert,
    _schema,
    beside=_beside,
)
