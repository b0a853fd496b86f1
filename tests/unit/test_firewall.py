"""The firewall's rules as text, and in this machine's kernel, in a network of their own."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from barekube import firewall
from barekube.cluster import Cluster, Node
from barekube.facts.machine import Found, Machine

CLUSTER = Cluster(
    name="home",
    version="1.37.2",
    api_name="api.home",
    api_port=6443,
    service_network="10.96.0.0/12",
    pod_network="10.32.0.0/12",
    nodes=(Node("cp-1", "192.0.2.11", True), Node("w-1", "192.0.2.21", False)),
)
PLAIN = firewall.rules(CLUSTER, 22, edge=False, trusted=[])
EDGE = firewall.rules(CLUSTER, 2222, edge=True, trusted=["192.0.2.0/25", "192.0.2.128/25"])


def _statements(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_a_host_admits_nodes_pods_and_icmp_and_of_anybody_else_only_ssh() -> None:
    assert _statements(PLAIN) == [
        "table inet barekube",
        "delete table inet barekube",
        "table inet barekube {",
        "chain prerouting {",
        "type filter hook prerouting priority -150; policy drop;",
        "ct state established,related accept",
        'iifname "lo" accept',
        "ip saddr { 192.0.2.11, 192.0.2.21 } accept",
        "ip saddr 10.32.0.0/12 accept",
        "meta l4proto ipv6-icmp accept",
        "udp sport 67 udp dport 68 accept",
        "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
        "ct state invalid drop",
        "fib daddr type local meta l4proto icmp accept",
        "fib daddr type local tcp dport { 22 } accept",
        "}",
        "}",
    ]


def test_the_edge_opens_its_doors_and_what_is_trusted_reaches_all() -> None:
    assert [line for line in _statements(EDGE) if line not in _statements(PLAIN)] == [
        # Neighbouring networks are one; two that overlap, nft would refuse.
        "ip saddr { 192.0.2.0/24 } accept",
        "fib daddr type local tcp dport { 80, 443, 2222 } accept",
    ]


def test_nobody_elses_rules_are_flushed() -> None:
    for text in (PLAIN, EDGE, firewall.LOAD, firewall.KEEP, firewall.START, firewall.REMOVE):
        assert "flush" not in text


def _in_a_network(script: str) -> str:
    done = subprocess.run(["unshare", "-n", "sh", "-ec", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _load(text: str) -> str:
    return f"printf %s {shlex.quote(text)} | nft -f -"


kernel = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network of its own")


@kernel
@pytest.mark.parametrize("text", [PLAIN, EDGE])
def test_the_kernel_takes_the_rules_again_and_again_and_leaves_other_tables(text: str) -> None:
    load = _load(text)
    listed = _in_a_network(
        f"nft add table ip nat; {load}; nft list table {firewall.TABLE} >$$.once; {load};"
        f" nft list table {firewall.TABLE} | diff - $$.once; rm $$.once; nft list tables"
    )
    assert listed == "table ip nat\ntable inet barekube\n"


def _ask(before: str, wanted: str = PLAIN) -> Found:
    fact = Machine()
    command = fact.command(table=(firewall.TABLE, wanted)).get_raw_value()
    return fact.process(_in_a_network(f"{before}; {command}").splitlines())


@kernel
def test_a_loaded_table_is_told_from_a_changed_and_from_an_absent_one() -> None:
    same = _ask(_load(PLAIN))
    assert same.table.startswith("table inet barekube {")
    assert same.table == same.table_wanted
    rule = f"nft insert rule {firewall.TABLE} prerouting tcp dport 8080 accept"
    changed = _ask(f"{_load(PLAIN)}; {rule}")
    assert changed.table_wanted == same.table
    assert changed.table != same.table
    assert _ask(_load(EDGE)).table_wanted == same.table
    assert (_ask("true").table, _ask("true").table_wanted) == ("", "")


# Stands for systemd: SCRIPT of `systemd-run ... sh -c SCRIPT` is noted; the test is the clock.
_TOOLS = {
    "systemctl": "exit 0\n",
    "systemd-run": 'for last; do :; done; echo "$last" >undo\n',
}


@kernel
@pytest.mark.parametrize("before", ["", PLAIN])
@pytest.mark.parametrize("kept", [False, True])
def test_a_change_that_nobody_keeps_is_taken_back(tmp_path: Path, before: str, kept: bool) -> None:
    for name, script in _TOOLS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    # Under its own directory instead of /run.
    load, keep = (
        text.replace("/run/barekube", str(tmp_path)) for text in (firewall.LOAD, firewall.KEEP)
    )
    show = f"nft list table {firewall.TABLE} 2>/dev/null || echo none"
    again = f"printf %s {shlex.quote(EDGE)} | sh -ec {shlex.quote(load)}"
    steps = [
        f"export PATH={tmp_path}:$PATH; cd {tmp_path}",
        _load(before) if before else "true",
        f"{{ {show}; }} >before",
        # The first of two changes is cut off: the second is undone to what was before both.
        f"printf %s {shlex.quote(EDGE.replace('443', '444'))} | sh -ec {shlex.quote(load)}",
        again,
        f"{{ {show}; }} >loaded",
        f"sh -ec {shlex.quote(keep)}" if kept else "true",
        "sh undo 2>/dev/null || true",
        f"{{ {show}; }} >after",
        f"if sh -ec {shlex.quote(keep)} 2>said; then echo kept twice; exit 1; fi",
    ]
    _in_a_network("; ".join(steps))
    read = {name: (tmp_path / name).read_text() for name in ("before", "loaded", "after", "said")}
    assert "2222" in read["loaded"]
    assert read["after"] == read["loaded" if kept else "before"]
    assert "the rules were taken back meanwhile; run again" in read["said"]
