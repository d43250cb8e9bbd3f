"""What people read: the summary of a dataset, its plots, the report of a run, the small tables that end it."""
