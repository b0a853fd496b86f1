"""What of Weave's report becomes a warning."""

from typing import Any

import pytest

from barekube.facts.weave import WeaveReport
from barekube.weave import broken

OTHERS = {"192.0.2.21": "w-1", "192.0.2.22": "w-2"}
REMEDY = (
    "see that TCP 6783, UDP 6783 and 6784 and ESP (IP protocol 50) pass between them, that their"
    " cards' MTU is at least 1463, and that their kernels have openvswitch, vxlan and esp4"
)


def _connection(
    address: str, state: str = "established", way: str = "fastdp", encrypted: bool = True
) -> dict[str, Any]:
    attributes = {"name": way, "encrypted": encrypted, "mtu": 1376}
    return {"Address": address, "State": state, "Info": "why", "Attrs": attributes}


def _report(*connections: dict[str, Any]) -> dict[str, Any]:
    ourselves = {"Address": "192.0.2.11:6783", "State": "failed", "Info": "ourselves"}
    return {"Router": {"Connections": [ourselves, *connections]}}


def test_pairs_that_are_fast_and_encrypted_need_no_word_whoever_called() -> None:
    report = _report(_connection("192.0.2.21:6783"), _connection("192.0.2.22:41234"))
    assert broken(report, "cp-1", OTHERS) == {}


@pytest.mark.parametrize(
    ("connections", "fault", "works"),
    [
        ([], "they are not connected", False),
        (
            [_connection("192.0.2.22:6783", state="failed")],
            "their connection is failed (why)",
            False,
        ),
        (
            [_connection("192.0.2.22:6783", way="sleeve")],
            "they speak by sleeve, which is slow",
            True,
        ),
        (
            [_connection("192.0.2.22:6783", way="sleeve", encrypted=False)],
            "they speak by sleeve, which is slow and nothing between them is encrypted",
            False,
        ),
    ],
    ids=["lost", "failed", "slow", "in clear"],
)
def test_a_pair_that_is_not_is_named_with_what_to_look_at(
    connections: list[dict[str, Any]], fault: str, works: bool
) -> None:
    report = _report(_connection("192.0.2.21:6783"), *connections)
    assert broken(report, "cp-1", OTHERS) == {f"warning: cp-1 and w-2: {fault}; {REMEDY}": works}


def test_an_attempt_that_failed_beside_a_connection_that_works_is_no_fault() -> None:
    good, failed = _connection("192.0.2.22:6783"), _connection("192.0.2.22:6783", state="failed")
    for order in ((good, failed), (failed, good)):
        report = _report(_connection("192.0.2.21:6783"), *order)
        assert broken(report, "cp-1", OTHERS) == {}


def test_a_weave_that_does_not_answer_is_named() -> None:
    said = (
        "warning: Weave on cp-1 does not answer; look at `kubectl -n kube-system logs -l"
        " app.kubernetes.io/name=weave-net -c weave`"
    )
    assert broken(None, "cp-1", OTHERS) == {said: False}


def test_a_report_is_found_behind_its_headers_and_one_that_is_cut_off_is_none() -> None:
    head = ["HTTP/1.0 200 OK\r", "\r"]
    assert WeaveReport().process([*head, '{"Router":', " {}}"]) == {"Router": {}}
    assert WeaveReport().process([*head, '{"Router": ']) is None
    assert WeaveReport().process(["bash: connect: Connection refused"]) is None
