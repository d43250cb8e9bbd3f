"""The automations that ship as YAML: they tell of failed runs and of new datasets, by a notification block."""

from pathlib import Path
from uuid import UUID

import yaml
from prefect.automations import AutomationCore
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from infra.errors import InputError
from infra.running.registration import Registered

FOLDER = Path(__file__).parents[1] / "deploy" / "automations"
_NO_BLOCK = str(UUID(int=0))


def register_automations(client: SyncPrefectClient, block: str) -> list[Registered]:
    """Make the automations that tell by a block, named like "slack-webhook/ops"; of those there, change the block."""
    block_id = find_block(client, block)
    outcomes = []
    for path in sorted(FOLDER.glob("*.yaml")):
        automation = read_automation(path, block_id)
        there = client.read_automations_by_name(automation.name)
        if not there:
            client.create_automation(automation)
            outcomes.append(Registered("automation", automation.name, "made", block))
        elif there[0].actions != automation.actions:
            client.update_automation(there[0].id, automation)
            outcomes.append(Registered("automation", automation.name, "changed", block))
        else:
            outcomes.append(Registered("automation", automation.name, "left", block))
    return outcomes


def read_automation(path: Path, block_id: UUID) -> AutomationCore:
    """An automation's file, with the block that it tells by."""
    text = path.read_text(encoding="utf-8").replace(_NO_BLOCK, str(block_id))
    return AutomationCore.model_validate(yaml.safe_load(text))


def find_block(client: SyncPrefectClient, name: str) -> UUID:
    """The id of a block like "slack-webhook/ops" (its type and its name). Raises InputError where there is none."""
    block_type, _, block = name.partition("/")
    try:
        return client.read_block_document_by_name(block, block_type).id
    except ObjectNotFound:
        raise InputError(
            f"--notify {name}: the Prefect server has no such block (type/name, such as slack-webhook/ops); make it in "
            "the UI under Blocks"
        ) from None
