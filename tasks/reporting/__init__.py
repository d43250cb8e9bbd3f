"""Figures for people: the summary of a dataset, its plots and card, the report of a run, the tables of the verbs."""
