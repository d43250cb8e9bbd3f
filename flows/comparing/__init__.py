"""`longmill compare`: one dataset for each variant of a recipe, over one store, and a table and a plot of them.

variants.py   the variants: a grid over recipe keys, and the recipe without each scorer
building.py   plans all variants before any call, then builds those that have no dataset yet
measuring.py  what a variant's dataset says: quality by the references, its calls, tokens and cost
command.py    the verb
"""
