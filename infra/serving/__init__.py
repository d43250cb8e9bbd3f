"""Servers that Longmill starts on this machine, looks after and ends."""
