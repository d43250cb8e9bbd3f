"""Loading a model without the bars and notes of its libraries, which would disturb those of the command line."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Switch off transformers' own progress bars, and what sentence-transformers notes about a model's prompts."""
    from transformers.utils import logging as transformers_logging

    enabled = transformers_logging.is_progress_bar_enabled()
    notes = logging.getLogger("sentence_transformers")
    level = notes.level
    transformers_logging.disable_progress_bar()
    notes.setLevel(logging.ERROR)
    try:
        yield
    finally:
        notes.setLevel(level)
        if enabled:
            transformers_logging.enable_progress_bar()
