"""etcd's members: as etcdctl 3.7.0 prints them, and which of them keeps another from joining."""

from dataclasses import replace
from pathlib import Path

import pytest

from barekube import etcd
from barekube.etcd import Member
from barekube.facts.upgrade import EtcdFact
from tests.unit.harness import begun

PRINTED = [
    "3b0f6a9fbf1c34c, unstarted, , https://192.0.2.12:2380, , true",
    "5c76a90ae78bcee7, started, cp-1, https://192.0.2.11:2380, https://192.0.2.11:2379, false",
    '[{"endpoint":"https://192.0.2.11:2379","health":true,"took":"3.332042ms"}]',
]
FIRST = Member(
    "5c76a90ae78bcee7",
    "cp-1",
    "https://192.0.2.11:2380",
    "https://192.0.2.11:2379",
    learner=False,
    healthy=True,
)
ADDED = Member("3b0f6a9fbf1c34c", "", "https://192.0.2.12:2380", "", learner=True, healthy=False)


def test_members_are_read_with_what_each_of_them_answers() -> None:
    assert etcd.members(PRINTED) == [ADDED, FIRST]
    sick = [*PRINTED[:2], PRINTED[2].replace("true", 'false,"error":"context deadline exceeded"')]
    assert etcd.members(sick) == [ADDED, replace(FIRST, healthy=False)]


@pytest.mark.parametrize("lines", [[], PRINTED[:2], PRINTED[2:], ["Error: x", PRINTED[2]]])
def test_what_is_not_wholly_understood_is_not_known(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="something else"):
        etcd.members(lines)


def test_a_member_is_found_by_the_address_that_kubeadm_announced() -> None:
    assert etcd.member_of([ADDED, FIRST], "192.0.2.12") == ADDED
    assert etcd.member_of([ADDED, FIRST], "192.0.2.13") is None


@pytest.mark.parametrize(
    ("other", "phrase"),
    [
        (FIRST, None),
        (replace(FIRST, healthy=False), "its member cp-1 does not answer"),
        (replace(FIRST, learner=True), "its member cp-1 has not caught up yet"),
        (
            replace(FIRST, name=""),
            "its member https://192.0.2.11:2380 was added and never started",
        ),
    ],
)
def test_nobody_joins_beside_a_member_that_is_not_well_but_its_own_remains(
    other: Member, phrase: str | None
) -> None:
    assert etcd.lacking([ADDED, other], "192.0.2.12") == phrase


@pytest.mark.parametrize("failing", [0, 2, 3])
def test_a_member_that_is_late_is_asked_three_times(tmp_path: Path, failing: int) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in {
        "crictl": f"""case "$*" in
*health*) echo >>"$0.log"
  [ $(wc -l <"$0.log") -gt {failing} ] || {{ echo ill; exit 1; }}
  echo well;;
*list*) echo 8e9e, started;;
esac""",
        "sleep": "",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    process = begun(EtcdFact().command(), tmp_path)
    said = EtcdFact().process(process.communicate()[0].splitlines())
    assert process.returncode == 0
    assert said == (["8e9e, started"], "ill" if failing == 3 else "well")


def test_one_that_is_well_and_votes_leads_when_another_leaves() -> None:
    second = replace(FIRST, identity="b2", name="cp-2")
    dead, learning = replace(second, healthy=False), replace(second, learner=True)
    assert etcd.heir([FIRST, ADDED, dead, learning, second], FIRST) == second
    assert etcd.heir([FIRST, ADDED, dead, learning], FIRST) is None
