"""How Longmill runs: Prefect, child processes, progress, and what the machine must have."""
