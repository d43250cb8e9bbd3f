"""What `longmill view` reads: the small columns of a dataset on this machine's disk, lists, details and comparisons."""
