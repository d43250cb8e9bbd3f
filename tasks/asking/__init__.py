"""Asking: from documents to questions whose answers are proved.

corpus      the documents of a recipe, on disk while they are planned, and which of them are alike
spans       the parts of documents that questions are written from
planning    a plan whose rows are questions to be written
kind        what a kind of question is; each is one file of `kinds`
writing     the prompt and the reply that a question is written with
proof       the sentences of a proof, found in the documents
wording     questions that point at a text
answering   the prompts and replies of the checks
matching    whether two answers say the same
checks      the checks, from the free to the dear
work        the work of a shard: write, check, tables
duplicates  questions that repeat another, found when all are there
publishing  the rows, the figures and the card of a dataset of questions
estimate    what a plan of asking takes
"""
