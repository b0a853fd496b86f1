"""What preflight asks a host: its hardware, system, clock and leftovers, in one round trip."""

import time
from collections.abc import Sequence

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

from barekube.preflight import FOREIGN, Checkup

_ASK = r"""
export LC_ALL=C; . /etc/os-release
echo "uid=$(id -u)"; echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
echo "userland=$(dpkg --print-architecture 2>/dev/null)"
echo "distribution=$ID"; echo "release=$VERSION_ID"; echo "codename=$VERSION_CODENAME"
echo "memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
echo "cpus=$(grep -c ^processor /proc/cpuinfo)"
echo "cgroup=$(stat -fc %T /sys/fs/cgroup 2>/dev/null)"
echo "controllers=$(cat /sys/fs/cgroup/cgroup.controllers 2>/dev/null)"
echo "machine_id=$(cat /etc/machine-id 2>/dev/null)"
echo "addresses=$(hostname -I 2>/dev/null)"
echo "ca=$(sha256sum </etc/kubernetes/pki/ca.crt 2>/dev/null | cut -c1-64)"
echo "trusts=$(ls /etc/ssl/certs/ca-certificates.crt 2>/dev/null)"
for p in containerd.io kubelet; do
  echo "package.$p=$(dpkg-query -Wf '${Version}' $p 2>/dev/null)"; done
"""


class CheckupFact(FactBase[Checkup | None]):
    """A Checkup of the host; None: not known. Reading only."""

    def command(self) -> StringCommand:
        foreign = " ".join(FOREIGN)
        return StringCommand(
            _ASK.strip(),
            f'; for f in {foreign}; do [ ! -e "$f" ] || echo "foreign=$f"; done;',
            'echo "clock=$(date +%s.%N)"; echo end',
        )

    def process(self, output: list[str]) -> Checkup:
        now = time.time()
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        values = dict(line.split("=", 1) for line in output[:-1] if "=" in line)
        foreign = tuple(line[8:] for line in output if line.startswith("foreign="))
        return Checkup.parse(values, foreign, now)


class Unanswered(FactBase[list[str] | None]):
    """Those of `urls` that the host cannot download; None: not known.

    With apt's own downloader, which is on every Debian. `ca` is the text of a CA to trust.
    """

    def command(self, urls: Sequence[str], ca: str = "") -> StringCommand:
        trust = '-o Acquire::https::CaInfo="$d/ca"' if ca else ""
        return StringCommand(
            "d=$(mktemp -d) && trap 'rm -rf \"$d\"' EXIT; printf %s",
            QuoteString(ca),
            '>"$d/ca"; for u in',
            *map(QuoteString, urls),
            "; do /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root -o Acquire::Retries=0",
            f"-o Acquire::https::Timeout=10 -o Acquire::http::Timeout=10 {trust}",
            'download-file "$u" "$d/f" >/dev/null 2>&1 || echo "$u"; done; echo end',
        )

    def process(self, output: list[str]) -> list[str]:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        return output[:-1]
