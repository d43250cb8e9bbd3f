"""Embedding models: here or on a server, long texts in windows, and the vectors of their tokens."""
