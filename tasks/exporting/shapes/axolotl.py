"""Axolotl's DPO data of type `chat_template.default`: `messages`, and an answer's message in `chosen` and `rejected`.

`axolotl.yaml` holds the lines of Axolotl's configuration that read it.
"""

from collections.abc import Mapping
from typing import Any

from tasks.exporting.shape import ExportedSplits, Row, Shape, each_pair, plain_messages

_CONFIGURATION = """\
rl: dpo
datasets:
  - path: {file}
    ds_type: json
    split: train
    type: chat_template.default
    field_messages: messages
    field_chosen: chosen
    field_rejected: rejected
"""


def _row(pair: Mapping[str, Any]) -> Row:
    return {
        "messages": plain_messages(pair["prompt"]),
        "chosen": plain_messages(pair["chosen"])[0],
        "rejected": plain_messages(pair["rejected"])[0],
    }


def _beside(exported: ExportedSplits) -> dict[str, str]:
    configuration = _CONFIGURATION.format(file=exported.files["train"])
    if "test" in exported.files:
        test = _CONFIGURATION.replace("datasets:", "test_datasets:").removeprefix("rl: dpo\n")
        configuration += test.format(file=exported.files["test"])
    return {"axolotl.yaml": configuration}


SHAPE = Shape("axolotl", "Axolotl: DPO of type chat_template.default", "pairs", each_pair(_row), beside=_beside)
