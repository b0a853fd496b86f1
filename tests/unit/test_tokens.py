"""Bootstrap tokens: good for as long as the last join of a run needs one, and all deleted."""

from types import SimpleNamespace
from typing import Any

import pytest

from barekube import tokens


def test_a_join_that_comes_late_has_a_token_of_its_own_and_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there: dict[str, str] = {}
    core = SimpleNamespace(
        create_namespaced_secret=lambda space, secret: there.update({secret.metadata.name: space}),
        delete_namespaced_secret=lambda name, space: there.pop(name, None),
    )
    api: Any = SimpleNamespace(core=core)
    clock = [0.0]
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    first = tokens.fresh()
    tokens.used_at_init(first)
    second = tokens.for_joining(api)
    assert second != first
    clock[0] = 200
    assert tokens.for_joining(api) == second
    clock[0] = 301
    assert tokens.for_joining(api) not in (first, second)
    assert len(there) == 2
    tokens.forget(api)
    assert not there
    assert not tokens.any_left()
