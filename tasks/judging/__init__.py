"""How a judge model is asked and understood: what the scorers that call one share. Scorers are in `tasks/scoring`."""
