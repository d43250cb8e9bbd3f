"""Exporting: a published dataset in the shape that another trainer reads.

A shape is one file in `tasks/exporting/shapes/`; putting it there registers it. It makes rows of the pairs of one
question, and says of what it cannot take why. Nothing is lost: units = units in rows + units left out by reason, where
the unit is a pair, an answer (two a pair) or a question.
"""

from tasks.exporting.shape import Converted, Pairs, Shape, all_shapes, find_shape

__all__ = ["Converted", "Pairs", "Shape", "all_shapes", "find_shape"]
