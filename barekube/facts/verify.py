"""What verify asks a host: its clock, disk and certificates; and requests that it sends."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from pyinfra.api import FactBase, FactProcessError, StringCommand

from barekube.preflight import ROOM
from barekube.verify import Answer, Try

# Certificates only; a key that stands in the same file is left out.
_LOOK = rf"""
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt \
  /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/kubelet-server-current.pem
do [ ! -e "$f" ] || {{ echo "file $f"; sed -n '/BEGIN CERT/,/END CERT/p' "$f"; }}; done
for f in /etc/kubernetes/*.conf; do [ ! -e "$f" ] || {{ echo "conf $f"
  sed -n 's/^ *client-certificate-data: */data /p' "$f"; }}; done
df -k --output=file,avail,size,target {" ".join(ROOM)} 2>/dev/null | {{ read -r _
  while read -r path free size disk; do echo "disk $path $free $size $disk"; done; }}
echo "clock $(date +%s.%N)"; echo end
"""


@dataclass(frozen=True)
class Look:
    """`ends` by file, and the files that hold no certificate that can be read; KiB free of how many
    by directory, each on a disk of its own; seconds ahead of the controller."""

    ends: dict[str, datetime]
    unread: list[str]
    disks: dict[str, tuple[int, int]]
    offset: float


class LookFact(FactBase[Look | None]):
    """A Look at the host; None: not known."""

    def command(self) -> StringCommand:
        return StringCommand(_LOOK.strip())

    def process(self, output: list[str]) -> Look:
        now = time.time()
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        *lines, clock, _ = (line.partition(" ") for line in output)
        ends: dict[str, datetime] = {}
        unread: list[str] = []
        disks: dict[str, tuple[str, tuple[int, int]]] = {}
        for file, texts in _certificates(lines):
            for text in texts:
                try:
                    end = x509.load_pem_x509_certificate(text).not_valid_after_utc
                except ValueError:
                    unread.append(file)
                else:
                    ends[file] = min(end, ends.get(file, end))
        for path, free, size, disk in (rest.split() for word, _, rest in lines if word == "disk"):
            disks.setdefault(disk, (path, (int(free), int(size))))
        return Look(ends, unread, dict(disks.values()), float(clock[2]) - now)


def _certificates(lines: Sequence[tuple[str, str, str]]) -> list[tuple[str, list[bytes]]]:
    """Each file's certificates, in PEM; a file that is to be one has one at least, an empty one."""
    result: list[tuple[str, list[bytes]]] = []
    for word, space, rest in lines:
        if word in ("file", "conf"):
            result.append((rest, [b""] if word == "file" else []))
        elif word == "data":
            result[-1][1].append(_decoded(rest))
        elif word != "disk":
            texts = result[-1][1]
            if texts[-1].endswith(_END):
                texts.append(b"")
            texts[-1] += f"{word}{space}{rest}\n".encode()
    return result


_END = b"-----END CERTIFICATE-----\n"


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""


# Each request by a bash of its own, all at once: a host need not have curl.
_SEND = r"""ask() { a=${EPOCHREALTIME/[^0-9]/}
t=$(timeout 15 bash -c 'exec 3<>/dev/tcp/$0/$1 && printf "GET %s HTTP/1.0\r\nHost: verify\r\n\r\n" \
"$2" >&3 && cat <&3' "$2" "$3" "$4" 2>&1 | tail -n 1)
echo "$1 $((${EPOCHREALTIME/[^0-9]/} - a)) $t"; }
"""


class Answers(FactBase[list[Answer] | None]):
    """What came back of each of `tries`, in their order; None: not known."""

    def command(self, tries: Sequence[Try]) -> StringCommand:
        self._count = len(tries)
        asked = "".join(
            f'ask {number} {each.address} {each.port} "{each.path}" & '
            for number, each in enumerate(tries)
        )
        script = f"{_SEND}{asked}wait; echo end".replace("'", "'\\''")
        return StringCommand(f"bash -c '{script}'")

    def process(self, output: list[str]) -> list[Answer]:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        rows = sorted((line.split(" ", 2) for line in output[:-1]), key=lambda row: int(row[0]))
        if len(rows) != self._count:
            raise FactProcessError("an answer is missing; run again")
        return [Answer(row[2].strip(), int(row[1]) / 1e6) for row in rows]
