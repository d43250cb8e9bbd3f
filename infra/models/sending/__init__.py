"""How calls reach a server: the queue of contexts, the attempts, the endpoints, and what is recorded."""
