"""The outside world behind small interfaces: models, store, ledger, servers. Knows nothing of the method."""
