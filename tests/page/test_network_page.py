"""The network page in a real browser, from its real server."""

import json

import pytest

from tests.page.conftest import Page
from tests.page.reports import FIRST, RANGE, peer_name

W1, W2 = "127.0.0.12", "127.0.0.13"
WELL = "fastdp, encrypted"


def test_a_network_that_is_well_is_shown_whole_and_nothing_of_it_in_red(page: Page) -> None:
    shown = page.look()
    assert shown.tables["pairs"] == [
        ["from / to", "cp-1", "w-1", "w-2"],
        ["cp-1", "itself", WELL, WELL],
        ["w-1", WELL, "itself", WELL],
        ["w-2", WELL, WELL, "itself"],
    ]
    share = [f"{RANGE // 3:,}", "33.3 %", "7"]
    assert shown.tables["nodes"][1:] == [
        ["cp-1", FIRST, peer_name(FIRST), *share],
        ["w-1", W1, peer_name(W1), *share],
        ["w-2", W2, peer_name(W2), *share],
    ]
    assert shown.items["counts"] == [
        "3",
        "6 of 6 well",
        "21 of 1,048,576",
        "10.32.0.0-10.47.255.255",
        "2.9.0",
    ]
    assert shown.items["faults"] == ["Nothing."]
    assert shown.texts["when"].startswith("As of ")
    assert "old" in shown.hidden
    # What is always in the page: the empty banner, and the word to browsers without JavaScript.
    assert shown.red == ["", "This page draws with JavaScript, which is off."]


def test_a_slow_pair_and_one_in_clear_are_red_on_the_side_that_says_so(page: Page) -> None:
    network = page.stand_ins.network
    network.connection(W1, W2)["Attrs"]["name"] = "sleeve"
    del network.connection(FIRST, W1)["Attrs"]["encrypted"]
    shown = page.look()
    assert shown.items["faults"] == [
        "✗ cp-1 to w-1: not encrypted",
        "✗ w-1 to w-2: by sleeve, which is slow",
    ]
    assert shown.tables["pairs"][1:] == [
        ["cp-1", "itself", "✗ fastdp, not encrypted", WELL],
        ["w-1", WELL, "itself", "✗ sleeve, encrypted"],
        ["w-2", WELL, WELL, "itself"],
    ]
    assert {"✗ fastdp, not encrypted", "✗ sleeve, encrypted"} <= set(shown.red)
    assert WELL not in shown.red
    assert "4 of 6 well" in shown.items["counts"]


def test_a_pair_that_failed_says_why_and_one_that_is_not_there_says_so(page: Page) -> None:
    network = page.stand_ins.network
    network.connection(W1, W2).update(State="failed", Info="no route to host", Attrs=None)
    connections = network.report(W2)["Router"]["Connections"]
    connections.remove(network.connection(W2, W1))
    shown = page.look()
    assert shown.items["faults"] == [
        "✗ w-1 to w-2: failed (no route to host)",
        "✗ w-2 to w-1: they are not connected",
    ]
    assert [row[2:] for row in shown.tables["pairs"][2:]] == [
        ["itself", "✗ failed"],
        ["✗ not connected", "itself"],
    ]


def test_a_failed_attempt_beside_a_connection_that_works_is_no_fault(page: Page) -> None:
    failed = {"Address": f"{W1}:6783", "State": "failed", "Info": "i/o timeout", "Attrs": None}
    connections = page.stand_ins.network.report(FIRST)["Router"]["Connections"]
    connections.insert(0, failed)
    connections.append(failed)
    assert page.look().items["faults"] == ["Nothing."]


def test_a_node_whose_weave_is_silent_is_red_and_the_others_are_shown(page: Page) -> None:
    page.stand_ins.network.reports[W2] = None
    shown = page.look()
    assert shown.items["faults"] == ["✗ w-2: its Weave does not answer (502)"]
    assert shown.tables["pairs"][1:] == [
        ["cp-1", "itself", WELL, WELL],
        ["w-1", WELL, "itself", WELL],
        ["✗ w-2", "✗ not known", "✗ not known", "itself"],
    ]
    assert shown.tables["nodes"][3][-1] == "not known"
    assert shown.items["counts"][:3] == ["3, 1 silent", "4 of 6 well", "at least 14 of 1,048,576"]


def test_a_node_that_left_the_network_is_shown_by_its_address_and_its_share_as_lost(
    page: Page,
) -> None:
    """It is no peer any more: what is left of it is an attempt to reach it, and its share."""
    gone = "127.0.0.14"
    report = page.stand_ins.network.report(FIRST)
    attempt = {"Address": f"{gone}:6783", "State": "retrying", "Info": "i/o timeout", "Attrs": None}
    report["Router"]["Connections"].append(attempt)
    share = {"Size": 256, "Peer": peer_name(gone), "Nickname": "w-3", "IsKnownPeer": False}
    report["IPAM"]["Entries"].append(share)
    shown = page.look()
    assert shown.items["faults"] == [
        f"✗ {gone}: it does not answer (502)",
        f"✗ cp-1 to {gone}: retrying (i/o timeout)",
        f"✗ w-1 to {gone}: they are not connected",
        f"✗ w-2 to {gone}: they are not connected",
        "✗ w-3: unreachable, and 256 addresses (0.0 %) are its",
    ]
    assert shown.tables["nodes"][1][:3] == [f"✗ {gone}", gone, "none known"]
    assert shown.tables["nodes"][-1] == ["✗ w-3", "", peer_name(gone), "256", "0.0 %", "not known"]


def test_a_node_that_the_first_one_does_not_know_as_a_peer_gets_its_name_from_itself(
    page: Page,
) -> None:
    router = page.stand_ins.network.report(FIRST)["Router"]
    peers = [p for p in router["Peers"] if p["NickName"] != "w-2"]
    others = [[c for c in p["Connections"] if c["Name"] != peer_name(W2)] for p in peers]
    router["Peers"] = [{**p, "Connections": c} for p, c in zip(peers, others, strict=True)]
    page.stand_ins.network.connection(FIRST, W2).update(State="failed", Info="EOF", Attrs=None)
    shown = page.look()
    assert shown.tables["pairs"][0] == ["from / to", "cp-1", "w-1", "w-2"]
    assert shown.items["faults"] == ["✗ cp-1 to w-2: failed (EOF)"]


def test_a_range_that_is_not_shared_out_and_pods_that_wait_for_an_address_are_named(
    page: Page,
) -> None:
    page.stand_ins.network.report(FIRST)["IPAM"] |= {
        "Paxos": {"Elector": True, "KnownNodes": 1, "Quorum": 2},
        "Entries": None,
    }
    page.stand_ins.network.report(W1)["IPAM"]["PendingAllocates"] = ["0a 10.32.0.0/12"]
    assert page.look().items["faults"] == [
        "✗ w-1: 1 wait for an address",
        "✗ the range is not shared out yet: too few nodes know each other",
    ]


def test_one_node_alone_has_no_pair_and_no_fault(page: Page) -> None:
    page.stand_ins.network = type(page.stand_ins.network)({FIRST: "cp-1"})
    shown = page.look()
    assert shown.items["faults"] == ["Nothing."]
    assert shown.tables["pairs"] == [["from / to", "cp-1"], ["cp-1", "itself"]]


def test_html_in_what_a_node_says_is_shown_as_text(page: Page) -> None:
    nick = "<img src=x onerror=\"document.title='taken'\">&amp;</td>"
    network = page.stand_ins.network
    network.report(W1)["Router"]["NickName"] = nick
    for peer in network.report(FIRST)["Router"]["Peers"]:
        peer["NickName"] = peer["NickName"].replace("w-1", nick)
    network.connection(W1, W2).update(State="failed", Info="<script>1</script>", Attrs=None)
    shown = page.look()
    assert shown.items["faults"] == [f"✗ {nick} to w-2: failed (<script>1</script>)"]
    assert nick in shown.tables["pairs"][0]
    assert "img" not in shown.tags
    assert shown.tags.count("script") == 1


def test_it_asks_again_and_shows_what_changed_meanwhile(page: Page) -> None:
    seen: list[str] = []
    network = page.stand_ins.network
    weave = page.stand_ins._weave

    def breaks(path: str, query: str, headers: object) -> tuple[int, str]:
        if path == "/report" and not query:
            seen.append(path)
            if len(seen) == 2:
                network.connection(FIRST, W1)["Attrs"]["name"] = "sleeve"
        return weave(path, query, headers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page.stand_ins, "_weave", breaks)
        shown = page.look(seconds=15)
    assert len(seen) == 2
    assert shown.items["faults"] == ["✗ cp-1 to w-1: by sleeve, which is slow"]


def test_what_is_old_is_marked_so_and_stays_to_be_seen(page: Page) -> None:
    # One for the whole report, two to learn which addresses may be asked.
    page.stand_ins.answers = 3
    shown = page.look(seconds=15)
    assert shown.tables["pairs"][1] == ["cp-1", "itself", WELL, WELL]
    assert "old" not in shown.hidden
    assert shown.texts["old"].startswith("What is shown is old, from ")
    assert shown.texts["old"].endswith(": Weave on this node does not answer (502)")


def test_a_page_that_never_had_an_answer_says_so(page: Page) -> None:
    page.stand_ins.answers = 0
    shown = page.look()
    assert shown.texts["old"] == ("Nothing can be shown: Weave on this node does not answer (502)")


def test_the_server_answers_get_of_status_and_report_and_nothing_else(page: Page) -> None:
    assert page.get("status") == (200, "        Version: 2.9.0\n")
    status, text = page.get("report")
    assert (status, json.loads(text)) == (200, page.stand_ins.network.report(FIRST))
    status, text = page.get("report?own")
    own = json.loads(text)
    assert (status, own["Router"]["NickName"], own["IPAM"]["ActiveIPs"]) == (200, "cp-1", 7)
    assert json.loads(page.get(f"report?node={W1}")[1])["Router"]["NickName"] == "w-1"
    assert json.loads(page.get(f"report?node={FIRST}")[1]) == own
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert page.get("report", method)[0] == 405
    for path, wanted in {
        "report?node=192.0.2.1": 404,
        "report?node=127.0.0.1": 404,
        "report?node=localhost": 400,
        "report?node=": 400,
        f"report?node={W1}/x": 400,
        "report?format=x": 400,
        "other": 404,
    }.items():
        assert page.get(path)[0] == wanted, path
