"""Training on a published dataset: DPO, ORPO or SFT, in a subprocess under accelerate.

`job` describes a training and runs it, `published` reads the dataset, `mixing` adds short-context pairs, `gate` encodes
the rows and refuses bad ones before money and time are spent, `launching` starts the subprocess and follows it. `run`
is the subprocess: with `base` (the model), `passes` (a step's questions as tensors), `losses` (one file each),
`trl_seams` (the trainers) and `watch` (progress and guards). `outputs` and `card` write the files of the trained model.
"""
