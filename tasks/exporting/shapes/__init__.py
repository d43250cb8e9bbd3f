"""The shapes, one a file; the name of a shape is that of its file with hyphens."""
