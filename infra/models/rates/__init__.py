"""Limits of requests and tokens in a minute: those of a recipe, and those that a server makes known."""
