"""What preflight asks a host: hardware, system, clock, leftovers, and whom it reaches."""

import time
from base64 import b64decode
from collections.abc import Sequence
from typing import NamedTuple

from pyinfra.api import FactBase, FactProcessError, QuoteString, StringCommand

from barekube.preflight import (
    CONTAINERDS,
    FIREWALLS,
    FOREIGN,
    FOREIGN_CONTAINERDS,
    ROOM,
    SWAP_UNITS,
    UFW,
    Checkup,
)

# Starting a program is what costs on a small machine: the shell reads what it can by itself.
_ASK = r"""
export LC_ALL=C; . /etc/os-release
echo "uid=$(id -u)"; echo "machine=$(uname -m)"; echo "kernel=$(uname -r)"
echo "userland=$(dpkg --print-architecture 2>/dev/null)"
echo "distribution=$ID"; echo "release=$VERSION_ID"; echo "codename=$VERSION_CODENAME"
read -r _ memory _ </proc/meminfo; echo "memory=$memory"
awk '/^processor/ { cpus++ } /^CPU part/ && !had[$NF]++ { cores = cores " " $NF }
  END { print "cpus=" cpus; print "cores=" cores }' /proc/cpuinfo
echo "cgroup=$(stat -fc %T /sys/fs/cgroup 2>/dev/null)"
first() { line=; [ ! -e "$1" ] || read -r line <"$1"; echo "$2=$line"; }
first /sys/fs/cgroup/cgroup.controllers controllers; first /etc/machine-id machine_id
echo "addresses=$(hostname -I 2>/dev/null)"
[ ! -e /etc/kubernetes/pki/ca.crt ] || echo "ca=$(sha256sum </etc/kubernetes/pki/ca.crt)"
[ ! -e /etc/kubernetes/kubelet.conf ] || sed -n \
  -e 's/^ *- --cluster-cidr=/pods=/p' -e 's/.*--node-ip=\([^" ]*\).*/node_ip=\1/p' \
  /var/lib/kubelet/kubeadm-flags.env /etc/kubernetes/manifests/kube-controller-manager.yaml \
  2>/dev/null
k=/etc/kubernetes; f=$k/kubelet.conf; [ ! -e $k/pki/ca.key ] || f=$k/admin.conf
[ ! -e $f ] || echo "server=$(sed -n 's|^ *server: https://||p' $f)"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || echo trusts=yes
[ ! -e /etc/apt/sources.list.d/barekube-containerd.sources ] || echo ours=yes
{ read -r _; while read -r dev to _ _ _ _ _ mask _; do routes="$routes $dev:$to:$mask"; done; \
  } </proc/net/route; echo "routes=$routes"
"""


class CheckupFact(FactBase[Checkup | None]):
    """A Checkup of the host; None: not known. Reading only."""

    def command(self) -> StringCommand:
        packages = " ".join(("kubelet", *CONTAINERDS))
        return StringCommand(
            _ASK.strip(),
            "; dpkg-query -Wf 'package.${Package}=${db:Status-Want} ${Version}\\n'",
            f"{packages} 2>/dev/null;",
            f"for f in {' '.join((*FOREIGN, *FOREIGN_CONTAINERDS))};",
            'do [ ! -e "$f" ] || echo "foreign=$f"; done;',
            f"echo room=$(df -k --output=file,avail,target {' '.join(ROOM)} 2>/dev/null | {{",
            'read -r _; while read -r path free disk; do echo "$path:$free:$disk"; done; });',
            "echo firewalls=$(systemctl list-units -q --plain --state=active --no-legend",
            f"{' '.join(unit for unit in FIREWALLS if unit != UFW)};",
            # Its file stays where the package is removed.
            "[ -x /usr/sbin/ufw ] && grep -qsi ^ENABLED=yes /etc/ufw/ufw.conf && echo ufw);",
            "echo swap=$(systemctl list-unit-files -q --no-legend --state=enabled",
            f"{' '.join(SWAP_UNITS)});",
            'echo "clock=$(date +%s.%N)"; echo end',
        )

    def process(self, output: list[str]) -> Checkup:
        now = time.time()
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        values = dict(line.split("=", 1) for line in output[:-1] if "=" in line)
        foreign = tuple(line[8:] for line in output if line.startswith("foreign="))
        return Checkup.parse(values, foreign, now)


class Downloads(NamedTuple):
    """Which URLs a host cannot download, and the texts of those that were asked for and that it
    can, by their URLs."""

    silent: list[str]
    texts: dict[str, str]


class Sources(FactBase[Downloads | None]):
    """What the host gets of `urls`, and of `texts` with what is in it; None: not known.

    With apt's own downloader, which is on every Debian, started once for all of them. `ca` is the
    text of a CA to trust.
    """

    def command(self, urls: Sequence[str], texts: Sequence[str], ca: str = "") -> StringCommand:
        trust = '-o Acquire::https::CaInfo="$d/ca"' if ca else ""
        everything = [QuoteString(url) for url in (*urls, *texts)]
        said: list[str | QuoteString] = []
        for number, url in enumerate(everything):
            kept = f'"$d/{number}"'
            if number >= len(urls):
                said += [f"[ ! -e {kept} ] || echo text", url, f"$(base64 -w0 {kept});"]
            said += [f"[ -e {kept} ] || echo silent", url, ";"]
        return StringCommand(
            "d=$(mktemp -d) && trap 'rm -rf \"$d\"' EXIT; printf %s",
            QuoteString(ca),
            '>"$d/ca"; /usr/lib/apt/apt-helper -qq -o APT::Sandbox::User=root',
            "-o Acquire::Retries=0 -o Acquire::https::Timeout=10 -o Acquire::http::Timeout=10",
            f"{trust} download-file",
            # After each its file, and a checksum, which nobody knows.
            *(each for n, url in enumerate(everything) for each in (url, f'"$d/{n}" ""')),
            ">/dev/null 2>&1;",
            *said,
            "echo end",
        )

    def process(self, output: list[str]) -> Downloads:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        lines = [line.split() for line in output[:-1]]
        return Downloads(
            [words[1] for words in lines if words[0] == "silent"],
            # Whatever is there, as a key too: a page, one that is not armoured, nothing.
            {
                words[1]: b64decode("".join(words[2:])).decode(errors="replace")
                for words in lines
                if words[0] == "text"
            },
        )


# Refused is good: the packet came there and back. A datagram is answered by "port unreachable";
# "mtu" is one of so many bytes, which must not be cut up (IP_PMTUDISC_PROBE). A closed TCP port
# answers by a reset: "port unreachable" (in MSG_ERRQUEUE) is a firewall's word there.
_REACH = r"""
use Socket; my @all;
for (@ARGV) {
  my ($kind, $address, $port, $size) = split /:/;
  socket(my $s, PF_INET, $kind eq "tcp" ? SOCK_STREAM : SOCK_DGRAM, 0) or die;
  fcntl($s, 4, 04000);
  my $tcp = $kind eq "tcp";
  setsockopt($s, 0, 10, 3) if !$tcp;
  # In progress, or refused: a socket that was given no way at all looks like one that has one.
  my $begun = connect($s, pack_sockaddr_in($port, inet_aton($address))) || $! == 115 || $! == 111;
  push @all, {s => $s, name => $_, tcp => $tcp, done => !$begun, size => ($size // 29) - 28};
}
for my $turn (1..12) {
  my @left = grep { !$_->{done} } @all or last;
  for (@left) { send($_->{s}, "x" x $_->{size}, 0) if !$_->{tcp} && $turn % 4 == 1; }
  select(undef, undef, undef, 0.25);
  for (@left) {
    my $w = ""; vec($w, fileno($_->{s}), 1) = 1;
    next if $_->{tcp} && !select(undef, $w, undef, 0);
    my $error = unpack("i", getsockopt($_->{s}, SOL_SOCKET, SO_ERROR));
    my $walled = $error && $_->{tcp} && defined recv($_->{s}, my $word, 1, 0x2040);
    $_->{good} = ($error == 111 && !$walled) || ($_->{tcp} && $error == 0);
    $_->{done} = $_->{good} || $_->{tcp};
  }
}
print "$_->{name}\n" for grep { !$_->{good} } @all;
print "end\n";
"""


class Unreached(FactBase[list[str] | None]):
    """Those of `targets` ("tcp:192.0.2.1:6443", "udp:...", "mtu:192.0.2.1:6785:1463", a packet's
    bytes with its headers) that do not answer.

    None: not known. Perl, because it is on every Debian and Ubuntu (perl-base is essential).
    """

    def command(self, targets: Sequence[str]) -> StringCommand:
        return StringCommand("perl", "-e", QuoteString(_REACH), *targets)

    def process(self, output: list[str]) -> list[str]:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        return output[:-1]


# A write of the size of etcd's, and how long it takes to be on the disk.
# Into a file without a name: kubeadm wants /var/lib/etcd empty, after a power cut too.
_SYNC = r"""bash -c 'f=$(mktemp -p "$0" .barekube-XXXXXX) && exec 3<>$f && rm $f
for s in $(printf "notrunc%.0s " {1..20}) $(printf "notrunc,fdatasync%.0s " {1..100}); do
a=${EPOCHREALTIME/[^0-9]/}; dd if=/dev/zero of=/dev/fd/3 bs=2300 count=1 conv=$s status=none
echo "$s $((${EPOCHREALTIME/[^0-9]/} - a))"; done; echo end' """
# A disk of its own, perhaps. kubeadm makes the directory only when it needs it.
_OF_ETCD = '"$([ -d /var/lib/etcd ] && echo /var/lib/etcd || echo /var/lib)"'


class SyncTimes(FactBase[list[float] | None]):
    """Milliseconds that each of 100 small writes took to be on the disk that etcd has, or is to
    have, without the time that starting a program takes; None: not known."""

    def command(self) -> StringCommand:
        return StringCommand(_SYNC + _OF_ETCD)

    def process(self, output: list[str]) -> list[float]:
        if output[-1] != "end":
            raise FactProcessError("the host's answer was cut off; run again")
        rows = [line.split() for line in output[:-1]]
        plain = sorted(int(time) for kind, time in rows if kind == "notrunc")
        synced = [int(time) for kind, time in rows if kind != "notrunc"]
        return [max(0, time - plain[len(plain) // 2]) / 1000 for time in synced]
