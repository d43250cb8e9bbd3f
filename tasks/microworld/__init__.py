"""The microworld: a fictional world in documents, questions about it, and two tiny models that read it.

The data:
    words           the names of the world and the sentence templates of its relations
    world           a world of facts, and the documents that state them
    questions       questions about a world, with gold answers and the facts that prove them
    answers         right answers, and wrong ones with known faults at known rates
    tokenizer       the tokenizer of the models in the box, and exact counts of tokens
    make            datasets in the factory's input format (`longmill microworld make`)

The judge that needs no model:
    parsing         reads the world's sentences, questions and answers
    rules           what the judge replies, by rules
    rule_judge      serves those replies in the OpenAI protocol

The models in the box (`longmill microworld train`):
    training        what both trainings share
    policy_lessons  the policy's lessons as batches of tokens
    train_policy    the stages of the policy's training
    policy_accuracy how often the policy is right; writes its folder and card
    judge_lessons   the judge's lessons: prompts with the rules' replies
    judge_batches   the judge's lessons as batches of tokens
    train_judge     how the judge begins, and its training
    judge_accuracy  how often the judge is right; writes its folder and card
"""
