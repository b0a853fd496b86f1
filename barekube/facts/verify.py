"""What verify asks a host: its clock, disk and certificates; and requests that it sends."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from pyinfra.api import FactBase, FactProcessError, StringCommand

from barekube.verify import Answer, Try

# Certificates only; a key that stands in the same file is left out.
_LOOK = r"""
for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt \
  /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/kubelet-server-current.pem
do [ ! -e "$f" ] || { echo "file $f"; sed -n '/BEGIN CERT/,/END CERT/p' "$f"; }; done
for f in /etc/kubernetes/*.conf; do [ ! -e "$f" ] || { echo "file $f"
  sed -n 's/^ *client-certificate-data: */data /p' "$f"; }; done
df -Pk /var | tail -n 1 | { read -r _ size _ free _; echo "var $free $size"; }
echo "clock $(date +%s.%N)"; echo end
"""


@dataclass(frozen=True)
class Look:
    """`ends` by file; KiB free of how many under /var; seconds ahead of the controller."""

    ends: dict[str, datetime]
    free: int
    size: int
    offset: float


class LookFact(FactBase[Look | None]):
    """A Look at the host; None: not known."""

    def command(self) -> StringCommand:
        return StringCommand(_LOOK.strip())

    def process(self, output: list[str]) -> Look:
        now = time.time()
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        ends: dict[str, datetime] = {}
        file, pem = "", ""
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "file":
                file = rest
            elif word == "data":
                pem = base64.b64decode(rest).decode()
            elif word not in ("var", "clock", "end"):
                pem += line + "\n"
            if "END CERTIFICATE" in pem:
                end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
                ends[file] = min(end, ends.get(file, end))
                pem = ""
        values = {line.split()[0]: line.split()[1:] for line in output[-3:-1]}
        free, size = map(int, values["var"])
        return Look(ends, free, size, float(values["clock"][0]) - now)


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
