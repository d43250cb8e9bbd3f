"""Servers here send what they send at once and for ever: a minute of a rate limit is a hundredth of a second."""

import pytest


@pytest.fixture(autouse=True)
def short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.models.rates.window.WINDOW_S", 0.01)
    monkeypatch.setattr("infra.models.rates.window._MARGIN_S", 0.0)
    monkeypatch.setattr("infra.models.rates.window.LONGEST_WAIT_S", 0.02)
