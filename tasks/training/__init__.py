"""Training on a published dataset: DPO, ORPO or SFT, in a subprocess under accelerate.

`job` says what is trained and runs it, `published` reads the dataset, `mixing` adds short-context pairs, `gate`
refuses rows before money and time are spent, `launching` starts and follows the subprocess, `run` is the subprocess
with `base` (the model), `watch` (progress and guards) and `losses` (one file each); `outputs` and `card` write what
others read.
"""
