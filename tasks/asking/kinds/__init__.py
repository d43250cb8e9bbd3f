"""The kinds of questions: each file has a constant `KIND`; adding the file, and its prompts, is all it takes."""
