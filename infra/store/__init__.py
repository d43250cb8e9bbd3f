"""The store: everything that Longmill keeps, in a folder or in object storage."""

from infra.store.store import Store, open_store, table_bytes

__all__ = ["Store", "open_store", "table_bytes"]
