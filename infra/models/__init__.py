"""Models behind endpoints: the client that calls them, embeddings, tokenizers, and the servers that Longmill starts."""
