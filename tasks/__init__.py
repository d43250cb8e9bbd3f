"""The work: one step of the method a file, as data, pure functions, then a thin Prefect task."""
