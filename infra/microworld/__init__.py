"""The microworld: a fictional world written as passages, its questions, and a tiny model that reads them.

`world` invents facts and writes documents, `questions` asks about them, `make` writes a dataset in the
factory's input format, `tokenizer` and `train` make the policy model in `policy/`. Nothing here knows the
factory's method: prompt files reach the trainer as a path.
"""
