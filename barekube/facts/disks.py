"""What is on the disks of a host: asked of lsblk, of wipefs, and of Ceph's own label."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from pyinfra.api import FactBase, FactProcessError, StringCommand

from barekube.disks import Disk, Osd

# Of Ceph's label only whose it is: it holds the OSD's key too. Perl is on every Debian. Ceph keeps
# copies of it at these GiB, which `wipefs` leaves; they count where the first is gone.
_LABEL = r"""
for my $path (@ARGV) {
  my ($b, $f);
  open($f, "<:raw", $path) && seek($f, 0, 2) or print("#blind $path\n"), next;
  my $size = tell($f);
  for my $gib (0, 1, 10, 100, 1000) {
    my $at = $gib * 2**30;
    last if $gib && $at + 4096 > $size;
    seek($f, $at, 0) && (read($f, $b, 4096) // 0) == 4096 or print("#blind $path\n"), last;
    next unless $b =~ /^bluestore block device\n/;
    my $fsid = $b =~ /ceph_fsid\x24\0\0\0([0-9a-f-]{36})/ ? $1 : "";
    my $osd = $b =~ /whoami(.)\0\0\0/s ? substr($b, $+[0], ord $1) : "";
    print $gib ? "#copy" : "#osd", " $fsid ", $osd =~ /^\d+$/ ? $osd : "", "\n";
    last;
  }
}
"""
_ASK = r"""export LC_ALL=C; ask() { echo "#disk $1"; r=$(readlink -e -- "$1") || return 0
[ -b "$r" ] || return 0; echo "#path $r"
t=$(lsblk -J -b -o NAME,PATH,TYPE,SIZE,MODEL,RO,FSTYPE,MOUNTPOINTS "$r") &&
  echo "#tree $(echo "$t" | tr -d '\n')"
s=$(wipefs --no-act --noheadings --output TYPE "$r") &&
  echo "#signatures $(echo "$s" | tr '\n' ' ')"
p=$(lsblk -n -l -o PATH "$r") && perl -e "$label" $p && echo '#labels'; }
"""


class DisksFact(FactBase[tuple[list[Disk], list[str]] | None]):
    """Those of the devices `names`, in their order, and all lasting names that the host has.

    None: not known. A device that could not be looked at in every way is `unread`. Reading only.
    """

    def command(self, names: Sequence[str]) -> StringCommand:
        asked = " ".join(map(shlex.quote, names))
        return StringCommand(
            f'label={shlex.quote(_LABEL)}; {_ASK}for d in {asked}; do ask "$d"; done;'
            " echo '#names'; ls -d /dev/disk/by-id/* /dev/disk/by-path/* 2>/dev/null; echo '#end'"
        )

    def process(self, output: list[str]) -> tuple[list[Disk], list[str]]:
        if output[-1] != "#end" or "#names" not in output:
            raise FactProcessError("the host's answer was cut off; run again")
        end = output.index("#names")
        blocks: list[list[str]] = []
        for line in output[:end]:
            if line.startswith("#disk "):
                blocks.append([])
            # What a login says first is no answer.
            if blocks:
                blocks[-1].append(line)
        return [_disk(block) for block in blocks], output[end + 1 : -1]


def _disk(lines: list[str]) -> Disk:
    said = {word: rest for word, _, rest in (line.partition(" ") for line in lines)}
    name, path = said["#disk"], said.get("#path", "")
    if not path:
        return Disk(name)
    blind = [line.partition(" ")[2] for line in lines if line.startswith("#blind")]
    unasked = [word for word in ("tree", "signatures", "labels") if f"#{word}" not in said]
    if blind or unasked:
        return Disk(name, path, unread=f"no answer to: {', '.join(blind + unasked)}")
    try:
        (tree,) = json.loads(said["#tree"])["blockdevices"]
        size = int(tree["size"])
        parts = tuple(_below(tree))
        mounts = tuple(_mounts(tree))
        model = (tree.get("model") or "").strip()
    except (AttributeError, ValueError, KeyError, TypeError):
        return Disk(name, path, unread="lsblk's answer cannot be read")
    labels = {}
    for word in ("#osd", "#copy"):
        if word in said:
            fsid, _, number = said[word].partition(" ")
            if not fsid or not number:
                return Disk(name, path, size, unread="Ceph's label on it is damaged")
            labels[word] = Osd(fsid, number)
    osd = labels.get("#osd")
    signatures = dict.fromkeys(said["#signatures"].split())
    if tree.get("fstype"):
        signatures[tree["fstype"]] = None
    return Disk(
        name,
        path,
        size,
        model,
        bool(tree.get("ro")),
        tuple(signatures),
        mounts,
        parts,
        osd,
        None if osd else labels.get("#copy"),
    )


def _mounts(device: dict[str, Any]) -> list[str]:
    return [each for each in device.get("mountpoints") or [] if each]


def _below(device: dict[str, Any]) -> list[str]:
    """What lies on a device: partitions, and what holds it."""
    result = []
    for each in device.get("children") or []:
        what = f"{each['type']} {each['name']}"
        what += f" ({each['fstype']})" if each.get("fstype") else ""
        where = ", ".join(_mounts(each))
        result += [f"{what}{where and f' mounted on {where}'}", *_below(each)]
    return result
