"""Generated questions: needles, chains of variables, common words, documents among others, and key-value pairs.

They are made for a tokenizer: the whole prompt has as many tokens as were asked for, or up to a few fewer.
"""
