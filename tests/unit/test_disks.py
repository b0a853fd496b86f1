"""What is on a disk decides whether Ceph gets it, or zap empties it; what is not known does not."""

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from barekube import disks as judged
from barekube.cluster import Cluster, Node
from barekube.disks import Disk, judge, refusal
from barekube.facts.disks import _LABEL, DisksFact
from barekube.operations import disks
from tests.unit.harness import Outcome, outcome

NAME = "/dev/disk/by-id/ata-X_1"
OURS, OTHER = "aaaaaaaa-0000-0000-0000-000000000001", "bbbbbbbb-0000-0000-0000-000000000002"


def _answer(*said: str, tree: dict[str, Any] | None = None, signatures: str = "") -> list[str]:
    """As the fact's command prints it of one disk; `said` are further lines of it."""
    device = {"name": "sdb", "path": "/dev/sdb", "type": "disk", "size": 4000787030016}
    device |= {"model": "WDC WD40 ", "ro": False, "fstype": None, "mountpoints": [None]}
    shown = json.dumps({"blockdevices": [device | (tree or {})]})
    lines = ["#path /dev/sdb", f"#tree {shown}", f"#signatures {signatures} ", *said, "#labels"]
    return [f"#disk {NAME}", *lines, "#names", NAME, "#end"]


def _read(lines: list[str]) -> Disk:
    (disk,), names = DisksFact().process(lines)
    assert names == [NAME]
    return disk


TITLE = f"disk {NAME} (sdb, 4.0 TB, WDC WD40)"
KEEP = "Ceph gets only empty disks: empty it by hand if nothing on it is needed, or name another"


def _child(kind: str, name: str, **more: object) -> dict[str, Any]:
    return {"children": [{"type": kind, "name": name, "mountpoints": [None], **more}]}


@pytest.mark.parametrize(
    ("lines", "words", "good"),
    [
        pytest.param(_answer(), f"{TITLE}: empty, Ceph can have it", True, id="blank"),
        pytest.param(
            _answer(signatures="gpt PMBR"),
            f"{TITLE} has a signature of gpt, a signature of PMBR; {KEEP} disk",
            False,
            id="a partition table and no partition",
        ),
        pytest.param(
            _answer(tree=_child("part", "sdb1", fstype="ext4", mountpoints=["/data"])),
            f"{TITLE} has part sdb1 (ext4) mounted on /data; {KEEP} disk",
            False,
            id="a partition",
        ),
        pytest.param(
            _answer(tree=_child("lvm", "vg-home"), signatures="LVM2_member"),
            f"{TITLE} has a signature of LVM2_member, lvm vg-home; {KEEP} disk",
            False,
            id="LVM",
        ),
        pytest.param(
            _answer(tree={"fstype": "xfs", "mountpoints": ["/srv"]}, signatures="xfs"),
            f"{TITLE} has a signature of xfs, a mount on /srv; {KEEP} disk",
            False,
            id="mounted",
        ),
        pytest.param(
            _answer(tree={"mountpoints": ["[SWAP]"]}),
            f"{TITLE} has a mount on [SWAP]; {KEEP} disk",
            False,
            id="swap",
        ),
        pytest.param(
            _answer(tree={"ro": True}),
            f"{TITLE} is read-only; mend that, or name another disk",
            False,
            id="read-only",
        ),
        pytest.param(
            _answer(f"#osd {OURS} 3", signatures="ceph_bluestore"),
            f"{TITLE}: in use by OSD 3 of this cluster",
            True,
            id="ours",
        ),
        pytest.param(
            _answer(f"#osd {OURS} 3", tree=_child("lvm", "ceph-1"), signatures="LVM2_member"),
            f"{TITLE}: in use by OSD 3 of this cluster",
            True,
            id="ours on LVM",
        ),
        pytest.param(
            _answer(f"#osd {OTHER} 3", signatures="ceph_bluestore"),
            f"{TITLE} has OSD 3 of another Ceph cluster ({OTHER}); if that one is gone for good,"
            " deploys/zap.py empties the disk",
            False,
            id="of another",
        ),
        pytest.param(
            _answer("#osd  3", signatures="ceph_bluestore"),
            f"what is on disk {NAME} (sdb, 4.0 TB) is not known (Ceph's label on it is damaged), so"
            " Ceph does not get it; mend that, then run again",
            False,
            id="a damaged label",
        ),
        pytest.param(
            [line for line in _answer() if not line.startswith("#signatures")],
            f"what is on disk {NAME} (sdb) is not known (no answer to: signatures), so"
            " Ceph does not get it; mend that, then run again",
            False,
            id="wipefs failed",
        ),
        pytest.param(
            _answer("#blind /dev/sdb"),
            f"what is on disk {NAME} (sdb) is not known (no answer to: /dev/sdb), so"
            " Ceph does not get it; mend that, then run again",
            False,
            id="unreadable",
        ),
        pytest.param(
            [f"#disk {NAME}", "#names", NAME, "#end"],
            f"disk {NAME} is not there; the host has {NAME}",
            False,
            id="absent",
        ),
    ],
)
def test_ceph_gets_a_disk_only_if_it_is_known_to_be_empty_or_its_own(
    lines: list[str], words: str, good: bool
) -> None:
    assert judge(_read(lines), OURS, [NAME]) == judged.Verdict(words, good)


def test_a_disk_of_ceph_is_told_of_and_not_refused_while_no_api_says_whose_it_is() -> None:
    assert judge(_read(_answer(f"#osd {OTHER} 3")), None) == judged.Verdict(
        f"{TITLE}: OSD 3 of the Ceph cluster {OTHER}; whether that is this one is told once the API"
        " answers",
        True,
    )
    assert not judge(_read(_answer(f"#osd {OTHER} 3")), "").good


@pytest.mark.parametrize(
    ("signatures", "own", "said"),
    [
        (
            "",
            OURS,
            f"{TITLE} has OSD 3 of another Ceph cluster ({OTHER}); if that one is gone for good,"
            " deploys/zap.py empties the disk",
        ),
        (
            "",
            OTHER,
            f"{TITLE} has a copy of the label of OSD 3 of the Ceph cluster {OTHER}; Ceph gets only"
            " empty disks: empty it by hand if nothing on it is needed, or name another disk",
        ),
        (
            "ext4",
            OURS,
            f"{TITLE} has a signature of ext4, a copy of the label of OSD 3 of the Ceph cluster"
            f" {OTHER}; Ceph gets only empty disks: empty it by hand if nothing on it is needed, or"
            " name another disk",
        ),
    ],
)
def test_a_disk_of_ceph_that_wipefs_was_run_on_is_not_taken_for_an_empty_one(
    signatures: str, own: str, said: str
) -> None:
    verdict = judge(_read(_answer(f"#copy {OTHER} 3", signatures=signatures)), own)
    assert verdict == judged.Verdict(said, False)


def test_what_a_login_says_before_the_answer_is_passed_over() -> None:
    assert judge(_read(["Welcome", *_answer()]), "").good


def _label(fsid: str, osd: str) -> bytes:
    """As Ceph writes it (BlueStore's bluestore_bdev_label_t), with a key that nobody may see."""

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    meta = {"ceph_fsid": fsid, "kv_backend": "rocksdb", "osd_key": "AQDsecret==", "whoami": osd}
    inner = bytes(16) + struct.pack("<Q", 1 << 26) + bytes(8) + text("main")
    inner += struct.pack("<I", len(meta)) + b"".join(text(k) + text(v) for k, v in meta.items())
    head = b"bluestore block device\n11111111-2222-3333-4444-555555555555\n"
    # Digits right after the OSD's number, as the checksum may begin.
    return (head + struct.pack("<BBI", 2, 1, len(inner)) + inner + b"7777").ljust(4096, b"\0")


@pytest.mark.skipif(shutil.which("perl") is None, reason="needs perl, which every Debian has")
def test_of_cephs_label_is_read_whose_it_is_and_not_its_key(tmp_path: Path) -> None:
    for name, content in (
        ("ceph", _label(OURS, "12")),
        ("blank", bytes(4096)),
        ("short", b"bluestore"),
        ("broken", b"bluestore block device\n".ljust(4096, b"x")),
    ):
        (tmp_path / name).write_bytes(content)
    # Only what is written of it takes room.
    with (tmp_path / "wiped").open("wb") as file:
        file.truncate(3 << 30)
        file.seek(1 << 30)
        file.write(_label(OTHER, "3"))
    names = ["ceph", "blank", "short", "broken", "absent", "wiped"]
    done = subprocess.run(
        ["perl", "-e", _LABEL, *names], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"#osd {OURS} 12\n#blind short\n#osd  \n#blind absent\n#copy {OTHER} 3\n"


CLUSTER = Cluster(
    "home", "1.37.2", "api.home", 6443, "10.96.0.0/12", "10.32.0.0/12", (Node("n-1", "x", True),)
)


def _zap(
    monkeypatch: pytest.MonkeyPatch, lines: list[str] | None, own: str | None, **data: str
) -> Outcome:
    monkeypatch.setattr(disks, "_own", {})
    monkeypatch.setattr(disks, "_ask_fsid", lambda cluster: own)
    return outcome(
        disks.zapped, CLUSTER, NAME, answers={"DisksFact": lines}, data=data | {"get": data.get}
    )


DEAD = _answer(f"#osd {OTHER} 3", signatures="ceph_bluestore")


@pytest.mark.parametrize(
    ("lines", "own", "sentence"),
    [
        (None, "", "its disks cannot be looked at; mend the error above, then run again"),
        (
            _answer(f"#copy {OTHER} 3"),
            OTHER,
            f"{TITLE}: OSD 3 of this very cluster; it is not emptied (the README says how a disk is"
            " replaced)",
        ),
        (_answer(), "", f"{TITLE} is empty already"),
        (
            _answer(signatures="ext4"),
            "",
            f"{TITLE} has a signature of ext4, and no label of Ceph's; it is not emptied",
        ),
        (
            DEAD,
            OTHER,
            f"{TITLE}: OSD 3 of this very cluster; it is not emptied (the README says how a disk is"
            " replaced)",
        ),
        (
            DEAD,
            None,
            f"{TITLE}: OSD 3 of the Ceph cluster {OTHER}, and whether that is this one is not"
            " known, for no API answers; it is not emptied",
        ),
        (
            _answer(f"#osd {OTHER} 3", tree=_child("lvm", "ceph-1"), signatures="LVM2_member"),
            OURS,
            f"{TITLE} has a signature of LVM2_member, lvm ceph-1; take that away by hand first"
            " (`vgremove` for a volume group of Ceph's)",
        ),
        (
            _answer(f"#osd {OTHER} 3", signatures="ceph_bluestore gpt"),
            OURS,
            f"{TITLE} has a signature of ceph_bluestore, a signature of gpt, which is not Ceph's"
            " alone; it is not emptied",
        ),
        (
            [line for line in DEAD if not line.startswith("#tree")],
            OURS,
            f"what is on disk {NAME} (sdb) is not known (no answer to: tree), so Ceph does not get"
            " it; mend that, then run again",
        ),
    ],
)
def test_zap_refuses_what_is_not_a_disk_of_a_ceph_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, lines: list[str] | None, own: str | None, sentence: str
) -> None:
    done = _zap(monkeypatch, lines, own, cluster="home")
    assert done.logs == [sentence]
    assert done.commands == ["false"]


@pytest.mark.parametrize("lines", [DEAD, _answer(f"#copy {OTHER} 3")])
@pytest.mark.parametrize("own", [OURS, ""])
def test_zap_shows_the_disk_until_the_cluster_is_named(
    monkeypatch: pytest.MonkeyPatch, own: str, lines: list[str]
) -> None:
    shown = f"{TITLE}: all that is on it goes for ever (OSD 3 of the Ceph cluster {OTHER})"
    asked = _zap(monkeypatch, lines, own)
    assert asked.commands == ["false"]
    assert asked.logs == [
        shown,
        "it is not emptied, for nobody confirmed it (--data cluster=home)",
    ]
    done = _zap(monkeypatch, lines, own, cluster="home")
    assert done.logs == [shown]
    (command,) = done.commands
    assert re.search(
        r"O_EXCL.* /dev/sdb; for at in 1000 100 10 1 0; .* wipefs -qa /dev/sdb", command
    )


def test_a_refusal_is_a_sentence_for_a_disk_that_is_not_there() -> None:
    assert refusal(Disk(NAME), "", ["/dev/disk/by-id/b"]) == (
        f"disk {NAME} is not there; the host has /dev/disk/by-id/b"
    )
