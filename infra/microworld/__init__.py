"""The microworld: a fictional world written as passages, its questions, and a tiny model that reads them.

`world` invents facts and writes documents, `questions` asks about them, `make` writes a dataset in the
factory's input format, `tokenizer` and `train` make the policy model in `policy/`. `rule_judge` serves the
rule-based judge: `parsing` reads the world's sentences back, `rules` says what follows. Nothing here knows the
factory's method: prompt files reach the trainer as a path, prompts the judge as texts.
"""
