"""Planning: questions get their contexts, are counted, estimated and cut into shards, before any call is paid."""
