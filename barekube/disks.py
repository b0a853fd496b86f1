"""What is on a disk, and whether Ceph may have it: what is not known to be empty is not."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Osd:
    """What Ceph's label on a device says: of which cluster it is, and which OSD."""

    fsid: str
    number: str

    def __str__(self) -> str:
        return f"OSD {self.number} of the Ceph cluster {self.fsid}"


@dataclass(frozen=True)
class Disk:
    """A device as it was found. `signatures` are what programs leave on a disk that they use;
    `parts` is what lies on it, as "sdb1, mounted on /data"; `osd` is Ceph's label, on it or on what
    lies on it; `copy` says the same where only a copy of the label is left. `unread` is what could
    not be looked at: then nothing else is to be relied on."""

    name: str
    path: str = ""
    size: int = 0
    model: str = ""
    read_only: bool = False
    signatures: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    osd: Osd | None = None
    copy: Osd | None = None
    unread: str = ""

    @property
    def title(self) -> str:
        """'disk ata-X (sdb, 4.0 TB, WDC WD40)'."""
        words = [self.path.rpartition("/")[2], self.size and _amount(self.size), self.model]
        return f"disk {self.name} ({', '.join(each for each in words if each)})"

    @property
    def content(self) -> str:
        """What is on it, or an empty text."""
        words = [*(f"a signature of {each}" for each in self.signatures), *self.parts]
        words += [f"a mount on {each}" for each in self.mounts]
        words += [f"a copy of the label of {self.copy}"] if self.copy else []
        return ", ".join(words)


def _amount(size: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class Verdict:
    """A line for the user, and whether Ceph can have the disk."""

    words: str
    good: bool


def judge(disk: Disk, fsid: str | None, names: Sequence[str] = ()) -> Verdict:
    """Whether Ceph can have a disk, or has it.

    `fsid` is this cluster's; "": it has no Ceph; None: that is not known now. `names` are all that
    the host has, for one that is not there.
    """
    if not disk.path and not disk.unread:
        there = ", ".join(sorted(names)) or "none by a name that lasts"
        return Verdict(f"disk {disk.name} is not there; the host has {there}", False)
    if disk.unread:
        return Verdict(
            f"what is on {disk.title} is not known ({disk.unread}), so Ceph does not get it; mend"
            " that, then run again",
            False,
        )
    if disk.osd:
        return _judge_osd(disk, disk.osd, fsid)
    bare = not (disk.signatures or disk.parts or disk.mounts)
    if disk.copy and bare and fsid not in (None, disk.copy.fsid):
        return _foreign(disk, disk.copy)
    if disk.content:
        return Verdict(
            f"{disk.title} has {disk.content}; Ceph gets only empty disks: empty it by hand if"
            " nothing on it is needed, or name another disk",
            False,
        )
    if disk.read_only:
        return Verdict(f"{disk.title} is read-only; mend that, or name another disk", False)
    return Verdict(f"{disk.title}: empty, Ceph can have it", True)


def _judge_osd(disk: Disk, osd: Osd, fsid: str | None) -> Verdict:
    if fsid is None:
        return Verdict(
            f"{disk.title}: {osd}; whether that is this one is told once the API answers",
            True,
        )
    if osd.fsid == fsid:
        return Verdict(f"{disk.title}: in use by OSD {osd.number} of this cluster", True)
    return _foreign(disk, osd)


def _foreign(disk: Disk, osd: Osd) -> Verdict:
    return Verdict(
        f"{disk.title} has OSD {osd.number} of another Ceph cluster ({osd.fsid}); if that one is"
        " gone for good, deploys/zap.py empties the disk",
        False,
    )


def refusal(disk: Disk, fsid: str | None, names: Sequence[str] = ()) -> str | None:
    """A sentence if a disk is not one of a Ceph cluster that is gone, so that it is not emptied."""
    if not disk.path or disk.unread or (disk.osd is None and not disk.content):
        verdict = judge(disk, fsid, names).words
        return verdict if not disk.path or disk.unread else f"{disk.title} is empty already"
    label = disk.osd or disk.copy
    if label is None:
        return f"{disk.title} has {disk.content}, and no label of Ceph's; it is not emptied"
    if fsid is None:
        return (
            f"{disk.title}: {label}, and whether that is this one is not known, for no API"
            " answers; it is not emptied"
        )
    if label.fsid == fsid:
        return (
            f"{disk.title}: OSD {label.number} of this very cluster; it is not emptied (the"
            " README says how a disk is replaced)"
        )
    if disk.parts or disk.mounts:
        return (
            f"{disk.title} has {disk.content}; take that away by hand first (`vgremove` for a"
            " volume group of Ceph's)"
        )
    others = [each for each in disk.signatures if each != "ceph_bluestore"]
    if others:
        return f"{disk.title} has {disk.content}, which is not Ceph's alone; it is not emptied"
    return None
