"""Models behind endpoints: the client that calls them, and what it is made of.

    client.py     calls from any thread, each paid once; protocol.py: requests, replies and failures as data
    sending/      how calls reach a server: queue, attempts, endpoints
    batches/      requests in files, answered within hours, in the place of sending
    forms/        how requests are written for a model
    rates/        limits of a minute
    refusals/     what a server refuses, and what follows
    embedding/    embedding models
    packaged/     the models in the box, whose files are in box/

The other files read replies (completions, thinking, scores) and count tokens and money.
"""
