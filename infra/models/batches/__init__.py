"""Batches: requests gathered into files, answered within hours at a lower price, by OpenAI's protocol.

    lines.py      the lines of the files that go up and come down
    server.py     the protocol: files, batches, what its faults mean
    records.py    what the store remembers of batches that are open, so that no killed run pays twice
    scheduler.py  gathers calls, sends them as batches, looks at these until they end
    collector.py  brings their outcomes to the ledger and to the calls

A batch scheduler stands in the place of the live one (infra/models/sending/scheduler.py); keys, ledger and replies are
the same.
"""
