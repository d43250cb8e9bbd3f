"""Evaluation: a model's answers to held-out questions, measured, and two models compared question by question."""
