"""Training a reward model on all judged answers of published datasets: `longmill train reward`.

`judged` reads the answers with their scores and the prompt that they answer, `rows` encodes them, `passes` makes a
step's batches, `trainer` has the two losses, `run` is the subprocess, `figures` says how well the model does on
held-out contexts, `card` and `job` write it all beside the model. A question is read as a tree
(tasks/training/shared_prefix): its prompt once, with all its answers as branches.
"""
