"""The microworld: a fictional world written as passages, its questions, and a tiny model that reads them.

`world` invents facts and writes documents, `questions` asks about them, `shelf` puts documents into contexts,
`preferences` answers rightly and wrongly, `make` writes datasets in the factory's input format (`longmill microworld
make`). `tokenizer` and `train` make the policy model in `policy/`, `counting` counts as it does. `rule_judge` serves
the rule-based judge: `parsing` reads the world's sentences back, `rules` says what follows. Nothing here knows the
factory's method: prompt files reach the trainer as a path, prompts the judge as texts.
"""
