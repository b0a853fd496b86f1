"""The lab's command on this machine: one at a time, sentences, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import __main__ as command
from lab import disks, emulation, guests, lock, machine, shell, wires
from lab.errors import LabError
from lab.hosts import GATEWAY, load

REPOSITORY = Path(__file__).parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lab of its own: this machine's is neither looked at nor touched."""
    for name in ("CACHE", "BUNDLE", "UML", "LOGS"):
        monkeypatch.setattr(guests, name, tmp_path / name)
    monkeypatch.setattr(guests, "NAMESPACE", "barekube-none")
    monkeypatch.setattr(lock, "_LOCK", tmp_path / "lock")
    monkeypatch.setattr(lock, "_OWNER", tmp_path / "owner")
    monkeypatch.setattr(machine, "need_root", lambda: None)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["lab", *arguments])
    return command.main(), capsys.readouterr().err


def _fails() -> None:
    raise OSError(28, "No space left on device", "/a/b")


def test_a_second_command_does_not_begin_while_one_is_at_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_need_programs", lambda: None)
    monkeypatch.setattr(command, "_do", lambda arguments, lab: 0)
    with lock.held():
        for words in (["up"], ["down"], ["power-off", "cp-1"], ["power-on", "cp-1"]):
            said = _lab(monkeypatch, capsys, *words)
            assert said == (1, "lab: another `python -m lab` is at work; wait for it\n")


def test_what_a_command_starts_does_not_keep_the_next_one_waiting(tmp_path: Path) -> None:
    with lock.held():
        started = guests._detach(SLEEP, tmp_path / "log", {})
    try:
        with lock.held():
            assert started.poll() is None
    finally:
        started.kill()
        started.wait()


def test_the_lab_of_another_cache_is_left_alone_until_its_checkout_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with monkeypatch.context() as there:
        there.setattr(lock, "_CHECKOUT", other)
        there.setattr(lock, "CACHE", tmp_path / "its-cache")
        lock.own()
    with pytest.raises(LabError) as caught, lock.held():
        pass
    assert str(caught.value) == (
        f"the lab of {other} (cache {tmp_path}/its-cache) is up;"
        " run `python -m lab down` there first"
    )
    other.rmdir()
    with lock.held():
        assert lock.abandoned()


def test_another_checkout_with_the_same_cache_takes_the_lab_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(lock, "_CHECKOUT", tmp_path)
        lock.own()
    with lock.held():
        assert not lock.abandoned()


@pytest.mark.parametrize("missing", ["ip", "ssh"])
@pytest.mark.parametrize(
    "words",
    [["status"], ["kubeconfig"], ["ssh", "cp-1"], ["power-on", "cp-1"], ["power-off", "cp-1"]],
    ids=lambda words: words[0],
)
def test_before_the_first_up_a_program_can_be_missing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    missing: str,
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == missing else name)
    said = _lab(monkeypatch, capsys, *words)
    assert said == (1, f"lab: there is no {missing}; run `python -m lab up` first\n")


def test_down_before_the_first_up_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(emulation, "_MOUNTS", Path(os.devnull))
    monkeypatch.setattr(command, "STATE", tmp_path / "state")
    assert _lab(monkeypatch, capsys, "down") == (0, "")


@pytest.mark.parametrize(("network", "memory"), [(False, True), (True, False)])
def test_power_on_after_down_says_what_comes_first(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    network: bool,
    memory: bool,
) -> None:
    monkeypatch.setattr(command, "_need_programs", lambda: None)
    monkeypatch.setattr(command, "_power_on", lambda lab, wanted: None)
    monkeypatch.setattr(wires, "whole", lambda: network)
    monkeypatch.setattr(machine, "ready", lambda: memory)
    said = _lab(monkeypatch, capsys, "power-on", "cp-1")
    assert said == (1, "lab: the lab is down; run `python -m lab up` first\n")


def test_a_full_disk_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "_down", _fails)
    said = _lab(monkeypatch, capsys, "down")
    assert said == (1, "lab: /a/b: No space left on device; mend that, then run it again\n")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = (
        "import sys, time; from lab import __main__ as lab; lab.machine.need_root = lambda: None;"
        " lab._need_programs = lambda: None; lab._do = lambda *_: time.sleep(1) or print('cp-1');"
        " sys.argv = ['lab', 'status']; sys.exit(lab.main())"
    )
    for unbuffered in ("", "1"):
        with subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as lab:
            assert lab.stdout and lab.stderr
            lab.stdout.close()
            assert lab.stderr.read() == b""


def test_only_root_can_have_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"^the lab makes .* mounts; run it as root$"):
        machine.need_root()


def test_a_machine_that_refuses_more_mappings_is_named_before_anything_boots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(type(tmp_path)):  # type: ignore[misc]
        def write_text(self, *_: object) -> int:
            raise PermissionError(13, "Permission denied")

    (tmp_path / "maps").write_text("65530\n")
    monkeypatch.setattr(machine, "installed", lambda package: "1")
    monkeypatch.setattr(machine, "_MAPS", Refusing(tmp_path / "maps"))
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "memory")
    with pytest.raises(LabError, match=r"^vm\.max_map_count cannot be raised to 1048576, "):
        machine.prepare(emulated=False)
    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize(("source", "taken"), [("barekube-lab", True), ("binfmt_misc", False)])
def test_down_takes_back_the_foreign_programs_only_where_it_let_them_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, taken: bool
) -> None:
    ran: list[list[str]] = []
    (tmp_path / "mounts").write_text(f"{source} {tmp_path} binfmt_misc rw 0 0\n")
    (tmp_path / "qemu-arm").write_text("enabled")
    monkeypatch.setattr(emulation, "_BINFMT", tmp_path)
    monkeypatch.setattr(emulation, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(
        emulation, "run", lambda words, what: ran.append([str(word) for word in words])
    )
    emulation.release()
    assert (tmp_path / "qemu-arm").read_text() == ("-1" if taken else "enabled")
    assert ran == ([["umount", str(tmp_path)]] if taken else [])


def test_a_key_of_an_up_that_was_killed_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("half a key")
    monkeypatch.setattr(shell, "STATE", tmp_path)
    monkeypatch.setattr(shell, "KEY", key)
    shell.make_key()
    made = key.read_text(), key.with_suffix(".pub").read_text()
    assert made[0].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    shell.make_key()
    assert (key.read_text(), key.with_suffix(".pub").read_text()) == made


def test_ssh_asks_nothing_and_reads_nobodys_settings() -> None:
    words = shell.command(load().host("cp-1"), ["true"])
    assert words[:3] == ["ssh", "-F", "none"]
    assert "BatchMode=yes" in words
    assert words[-2:] == ["root@10.77.0.11", "true"]


def test_hosts_are_spread_over_the_cores_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores: list[int] = []
    powered: dict[str, int] = {}
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 5})
    monkeypatch.setattr("lab.kernel.build", lambda: Path())
    monkeypatch.setattr(shell, "make_key", lambda: None)
    monkeypatch.setattr(shell, "wait", lambda hosts: None)
    monkeypatch.setattr(disks, "root_disk", lambda host: Path("/"))
    monkeypatch.setattr(guests, "power_on", lambda host, system, core: cores.append(core))
    monkeypatch.setattr(guests, "core", lambda host: powered.get(host.name))
    lab = load()
    command._power_on(lab, lab.hosts[:3])
    # A control plane is as much as three workers.
    assert cores == [3, 5, 5]
    cores.clear()
    powered["cp-1"] = 3
    command._power_on(lab, [lab.hosts[0], *lab.hosts[6:9]])
    assert cores == [5, 3, 5, 3]
    cores.clear()
    powered["worker-1"] = 5
    command._power_on(lab, [lab.host("cp-2"), lab.host("cp-3")])
    assert cores == [5, 3]


def test_the_users_own_server_of_the_bundle_is_not_the_labs(tmp_path: Path) -> None:
    words = ["python", "-m", "bundle", "--dir", f"{tmp_path}/BUNDLE", "serve", "--address"]
    assert not guests._is_server([*words, "192.0.2.9", "--port", "8443"])
    assert guests._is_server([*words, GATEWAY, "--port", "443"])


def test_down_ends_the_builds_that_a_killed_up_left_and_no_others(tmp_path: Path) -> None:
    cache = tmp_path / "CACHE"
    work = cache / "kernel-work/tree"
    work.mkdir(parents=True)

    def start(where: Path, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*SLEEP, *words], cwd=where, stdin=subprocess.DEVNULL)

    left = [start(work), start(tmp_path, "bundle", "--dir", f"{tmp_path}/BUNDLE", "build")]
    others = [start(cache), start(tmp_path, "bundle", "--dir", "/elsewhere", "build")]
    try:
        guests.end_all()
        assert [process.wait(timeout=5) for process in left] == [-signal.SIGTERM] * 2
        assert [process.poll() for process in others] == [None, None]
    finally:
        for process in (*left, *others):
            process.kill()
            process.wait()


def test_an_up_that_gets_sigterm_ends_its_build_of_the_bundle(tmp_path: Path) -> None:
    build = tmp_path / "build"
    build.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid\n")
    with build.open("a") as file:
        file.write("exec sleep 60\n")
    build.chmod(0o755)
    code = "import sys; from lab import __main__ as lab; lab.end_by_sigterm();"
    code += f" sys.executable = {str(build)!r}; lab._built()"
    up = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    end = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.02)
    up.terminate()
    assert up.wait(timeout=10) == 143
    process = Path("/proc", (tmp_path / "pid").read_text().strip())
    end = time.monotonic() + 5
    while process.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
