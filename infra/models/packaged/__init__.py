"""The models in the box: their names, and how those whose weights are in the package index are fetched."""
