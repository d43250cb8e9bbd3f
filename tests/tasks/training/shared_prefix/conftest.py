"""One thread for all tests here."""

from tests.support.torch_threads import one_thread

__all__ = ["one_thread"]
