"""Another key for Secrets: in an order that leaves no moment in which one cannot be read."""

import pytest

from barekube import encryption, kubeadm_config
from barekube.encryption import Step


def _walk(there: dict[str, list[str]], wanted: str) -> list[Step]:
    steps = []
    while step := encryption.step(there, wanted):
        steps.append(step)
        there = {**there, step.host: list(step.names)}
    return steps


def test_all_servers_know_a_key_before_one_writes_with_it_and_lose_the_old_one_last() -> None:
    assert _walk({"cp-1": ["key1"], "cp-2": ["key1"]}, "key2") == [
        Step("cp-1", ("key1", "key2")),
        Step("cp-2", ("key1", "key2")),
        Step("cp-1", ("key2", "key1")),
        Step("cp-2", ("key2", "key1")),
        Step("cp-1", ("key2",), rewrite=True),
        Step("cp-2", ("key2",)),
    ]


def test_a_single_server_writes_with_the_new_key_at_once() -> None:
    assert _walk({"cp-1": ["key1"]}, "key2") == [
        Step("cp-1", ("key2", "key1")),
        Step("cp-1", ("key2",), rewrite=True),
    ]


@pytest.mark.parametrize("cut", range(6))
def test_a_rotation_that_was_cut_off_goes_on_where_it_was(cut: int) -> None:
    whole = _walk({"cp-1": ["key1"], "cp-2": ["key1"]}, "key2")
    there = {"cp-1": ["key1"], "cp-2": ["key1"]}
    for step in whole[:cut]:
        there[step.host] = list(step.names)
    assert _walk(there, "key2") == whole[cut:]


def test_with_the_wanted_key_alone_nothing_is_to_do() -> None:
    assert encryption.step({"cp-1": ["key1"]}, "key1") is None


def test_a_file_keeps_its_keys_in_their_order_and_another_one_is_unreadable() -> None:
    keys = {"key2": encryption.fresh(), "key1": encryption.fresh()}
    assert list(encryption.keys(kubeadm_config.encryption_configuration(keys)).items()) == list(
        keys.items()
    )
    for text in ("", "resources: []", "a: ["):
        with pytest.raises(encryption.Unreadable):
            encryption.keys(text)
