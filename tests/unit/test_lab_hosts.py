"""lab/hosts.yaml: what is wrong with it is said in a sentence."""

import itertools
from pathlib import Path

import pytest

from lab import disks, emulation
from lab.errors import LabError
from lab.hosts import load

GOOD = "cp-1: {address: 10.77.0.11, group: control_plane, debian: bookworm}"


def _load(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "hosts.yaml"
    file.write_text("hosts:\n" + "".join(f"  {line}\n" for line in lines))
    with pytest.raises(LabError) as caught:
        load(file)
    return str(caught.value)


def test_the_file_of_the_repository_has_a_control_plane_and_two_workers() -> None:
    booted = [(host.name, host.group) for host in load().hosts if not host.spare]
    assert booted == [("cp-1", "control_plane"), ("worker-1", "workers"), ("worker-2", "workers")]


def test_each_machine_has_a_network_card_of_its_own() -> None:
    cards = [host.mac for host in load().hosts]
    assert len(set(cards)) == len(cards)


def test_an_emulated_host_starts_debians_kernel_with_its_disks_and_cards(tmp_path: Path) -> None:
    mark = tmp_path / "a.pid"
    words = emulation.command("arm", "a", "1G", Path("root.img"), [Path("a"), Path("b")], mark)
    words += emulation.cards([("tap", "02:77:0a:4d:00:20")])
    assert words[0] == "qemu-system-arm"
    assert str(mark) in words
    after = dict(itertools.pairwise(words))
    assert (after["-kernel"], after["-initrd"]) == ("root.kernel", "root.initrd")
    assert [word.rpartition("=")[2] for word in words if word.startswith("if=none")] == ["a", "b"]
    (card,) = (word for word in words if word.startswith("virtio-net"))
    assert ",mac=02:77:0a:4d:00:20," in card
    assert ",csum=off," in card


def test_an_emulated_hosts_cards_are_known_by_their_addresses() -> None:
    board, other = load().host("armv7-1"), load().host("worker-2")
    assert f"[Match]\nMACAddress={board.mac}\n" in disks._network(board)
    assert "[Match]\nName=vec0\n" in disks._network(other)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param(
            "a: {address: 10.77.0.11, group: workers, debian: trixie}",
            "a and cp-1 have the same address 10.77.0.11",
            id="an address twice",
        ),
        pytest.param(
            "a: {address: 10.99.0.1, group: workers, debian: trixie}",
            "a: '10.99.0.1' is no free address of 10.77.0.0/24",
            id="an address elsewhere",
        ),
        pytest.param(
            "a: {address: 10.77.0.1, group: workers, debian: trixie}",
            "a: '10.77.0.1' is no free address of 10.77.0.0/24",
            id="the gateway's address",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: worker, debian: trixie}",
            "a: group is one of control_plane, workers, not 'worker'",
            id="an unknown group",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: sid}",
            "a: debian is one of bookworm, trixie, not 'sid'",
            id="an unknown release",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, memory: 4096}",
            "a: 4096 is no size; write 512M or 4G",
            id="memory without a unit",
        ),
        pytest.param(
            "a: {address: null, group: workers, debian: trixie}",
            "a: None is no free address of 10.77.0.0/24",
            id="an address that is empty",
        ),
        pytest.param(
            "a: {address: 10.77.0.255, group: workers, debian: trixie}",
            "a: '10.77.0.255' is no free address of 10.77.0.0/24",
            id="the broadcast address",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, outer: 10.77.0.10}",
            "a: '10.77.0.10' is no free address of 10.78.0.0/24",
            id="a second card in the first network",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: [trixie]}",
            "a: debian is one of bookworm, trixie, not ['trixie']",
            id="a release that is a list",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, spare: 'no'}",
            "a: spare is true or false, not 'no'",
            id="a spare that is a word",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, data_disks: 5}",
            "a: data_disks is a list of up to 7 sizes, as [2G, 512M]",
            id="data disks that are no list",
        ),
        pytest.param(
            f"a: {{address: 10.77.0.9, group: workers, debian: trixie, data_disks: {['1G'] * 8}}}",
            "a: data_disks is a list of up to 7 sizes, as [2G, 512M]",
            id="more data disks than a machine takes",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, arch: riscv64}",
            "a: arch is one of amd64, arm64, arm, not 'riscv64'",
            id="an architecture that is not emulated",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, debian: trixie, arch: arm}",
            "a: emulated hosts are slow; make it spare, to boot it by name",
            id="an emulated host that is no spare",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers}",
            "a: debian is missing",
            id="a release that is missing",
        ),
        pytest.param(
            "A_b: {address: 10.77.0.9, group: workers, debian: trixie}",
            "'A_b' is no name for a host; write up to 11 of a-z, 0-9 and -",
            id="a name that is none",
        ),
        pytest.param(
            "cp-1: {address: 10.77.0.9, group: workers, debian: trixie}",
            "cp-1 is there again in line 3; keep one of them",
            id="a name twice",
        ),
        pytest.param(
            "a: {address: 10.77.0.9, group: workers, 1: x, foo: y}",
            "a: 1 is not known; there are address, arch, data_disks, debian, edge, group, memory,"
            " outer, spare, user",
            id="unknown keys, one of them a number",
        ),
    ],
)
def test_a_bad_line_is_named_with_the_remedy(tmp_path: Path, line: str, sentence: str) -> None:
    assert _load(tmp_path, GOOD, line) == sentence


@pytest.mark.parametrize(
    "text", ["hosts: {", "hosts: 2026-13-45", "hosts: {a: {memory: 2026-99-99}}"]
)
def test_a_file_that_is_not_yaml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(text)
    with pytest.raises(LabError, match=r"hosts\.yaml cannot be read as YAML: "):
        load(file)


@pytest.mark.parametrize("text", ["", "hosts:", "hosts: {}", "hosts: [a]"])
def test_a_file_without_hosts_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(text)
    with pytest.raises(LabError, match=r"hosts\.yaml has no `hosts:` with a host a line$"):
        load(file)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_bytes(b"hosts: \xff")
    with pytest.raises(LabError, match=r"hosts\.yaml cannot be read as YAML: "):
        load(file)
