"""TRL's conversational preference format: `prompt`, `chosen` and `rejected` as chat messages. DPO, ORPO, CPO, SimPO."""

from tasks.exporting.shape import of_columns

SHAPE = of_columns("trl", "TRL: prompt, chosen, rejected as chat messages", "prompt", "chosen", "rejected", "tools")
