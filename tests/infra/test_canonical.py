"""Equal values have equal bytes, on every machine, for ever."""

import pytest

from infra.canonical import canonical_json, fingerprint, seed_number, seeded_random, text_id


def test_the_bytes_are_sorted_compact_utf8() -> None:
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é中"}) == '{"a":"é中","b":[1,2.5,null,true]}'.encode()


def test_values_that_no_reader_agrees_on_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_golden_values_never_change() -> None:
    # A change here makes every ledger useless: all calls would be paid for again.
    assert fingerprint({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert text_id("中文") == "72726d8818f693066ceb69afa364218b692e62ea92b385782363780f47529c21"
    assert seed_number(0, "example", 3) == int(fingerprint([0, "example", 3])[:8], 16) % 2**31
    assert seeded_random("a", 1).randint(0, 10**9) == seeded_random("a", 1).randint(0, 10**9)
    assert seeded_random("a", 1).random() != seeded_random("a", 2).random()
