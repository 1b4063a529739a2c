# SPDX-License-Identifier: MIT
"""Two monitors under the same verbs, for bench/migration and bench/balloon: a machine
is started, its guest obeys commands on the serial port, and it is moved. Both speak
QMP and have their sockets in a directory of the caller's."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MIB = 1 << 20
START_SECONDS = 30
PATIENCE_SECONDS = 120  # of a move without an end
UNLIMITED = 100 << 30  # bytes a second
PAGE = 4096
LISTEN_SECONDS = 0.00025  # how exactly a sign of life is dated


class Failure(Exception):
    """A run that cannot go on, and why."""


def connect(path, process):
    until = time.monotonic() + START_SECONDS
    connection = socket.socket(socket.AF_UNIX)
    while time.monotonic() < until and process.poll() is None:
        try:
            connection.connect(path)
            return connection
        except OSError:
            time.sleep(0.005)
    raise Failure(f"nobody listens at {os.path.basename(path)}")


class Qmp:
    def __init__(self, path, process):
        connection = connect(path, process)
        connection.settimeout(PATIENCE_SECONDS)
        self.file = connection.makefile("rw", encoding="utf-8")
        self.events = []
        self.file.readline()
        self.call("qmp_capabilities")

    def call(self, command, arguments=None):
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        self.file.write(json.dumps(request) + "\n")
        self.file.flush()
        while True:
            answer = self._next()
            if "error" in answer:
                raise Failure(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self.events.append(answer)

    def event(self, wanted):
        """The data of the next event that `wanted` takes."""
        while True:
            answer = self.events.pop(0) if self.events else self._next()
            if "event" in answer and wanted(answer):
                return answer.get("data", {})

    def _next(self):
        try:
            line = self.file.readline()
        except TimeoutError:
            raise Failure(f"no word for {PATIENCE_SECONDS} s") from None
        if not line:
            raise Failure("the monitor's process has ended")
        return json.loads(line)


class Console:
    """The guest's serial port. A thread notes when something came: each is a
    sign of the guest's life. It comes before the others, so that its own wait for
    a CPU is not taken for the guest's, and looks up only now and then: else each
    byte would cost the guest an interruption."""

    def __init__(self, path, process):
        self.connection = connect(path, process)
        self.signs = []
        self.lived = threading.Event()
        self.text = bytearray()
        self.tag = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # this thread
        except PermissionError:
            pass
        try:
            while data := self.connection.recv(65536):
                self.signs.append(time.monotonic())
                self.text += data.replace(b"~", b"")  # pulses, between lines
                self.lived.set()
                time.sleep(LISTEN_SECONDS)
        except OSError:
            pass

    def ready(self, seconds):
        """A guest greets, maybe before anybody listens, and is deaf until then: it
        is given so long to greet."""
        self._await(b"@ agent ready\n", seconds)
        self.command("ping")

    def _await(self, what, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if what in self.text:
                return True
            time.sleep(0.005)
        return False

    def command(self, line, seconds=60):
        """Its reply, as a dictionary of what each line begins with."""
        self.ask(line)
        return self.answer(line, seconds)

    def ask(self, line):
        """For those who have something to do until the reply comes."""
        self.tag += 1
        self.connection.sendall(b"#%d %s\n" % (self.tag, line.encode()))

    def answer(self, line, seconds=60):
        begin = b"@ begin %d\n" % self.tag
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            reply = bytes(self.text).partition(begin)[2].decode("ascii", "replace")
            lines = [each[2:].split() for each in reply.split("\n")[:-1] if each[:2] == "@ "]
            for words in lines:
                if words[:1] == ["error"]:
                    raise Failure(f"guest: {line}: {reply.strip()}")
                if words == ["ok"]:
                    self.text.clear()
                    return {each[0]: each[1:] for each in lines if len(each) > 1}
            time.sleep(0.005)
        raise Failure(f"guest: no reply to '{line}'")


class Machine:
    """A guest in a monitor, or with `incoming` room for one. It ends with `with`."""

    def __init__(self, paths, where, role, memory, hinting, incoming=None):
        self.paths = paths
        self.where = where
        self.role = role
        self.log = open(self._at("log"), "wb")
        command = self._before(hinting) + self._command(memory, hinting, incoming)
        self.process = subprocess.Popen(command,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.usage = None
        try:
            self.console = Console(self._at("serial"), self.process)
            self.qmp = Qmp(self._at("qmp"), self.process)
            self._prepare(incoming)
        except Failure as failure:
            self.quit()
            raise Failure(f"{failure} ({self._last_words()})") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.quit()

    def _at(self, suffix):
        return os.path.join(self.where, f"{self.role}.{suffix}")

    def _last_words(self):
        with open(self._at("log"), encoding="utf-8", errors="replace") as file:
            return (file.read().strip().splitlines() or ["it said nothing"])[-1]

    def _prepare(self, incoming):
        pass

    def _before(self, _):
        """What the command line begins with."""
        return []

    def _append(self, _):
        """The guest's command line."""
        return self.paths.get("append", "")

    def _boot(self, dashes, hinting):
        """The options of what it boots: a guest of its own, or a kernel with more."""
        words = [dashes + "kernel", self.paths["guest"]]
        if "initrd" in self.paths:
            words += [dashes + "initrd", self.paths["initrd"]]
        return words + [dashes + "append", self._append(hinting)]

    @property
    def pid(self):
        return self.process.pid

    def rss(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE

    def cpu_seconds(self):
        """Of all its threads, those included that have ended. In nanoseconds, where
        utime and stime of /proc count ticks: the process's own CPU clock."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def quit(self):
        """Return: CPU seconds of its whole life, its end included"""
        if self.usage is None and self.process.returncode is None:
            os.kill(self.pid, signal.SIGKILL)  # it is there, be it dead: we wait below
            _, self.process.returncode, usage = os.wait4(self.pid, 0)
            self.usage = usage.ru_utime + usage.ru_stime
        self.log.close()
        return self.usage


class Aerostat(Machine):
    name = "aerostat"

    @staticmethod
    def missing(paths):
        return None if os.access(paths["aerostat"], os.X_OK) else "aerostat is not built"

    @staticmethod
    def version(paths):
        commit = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"],
                                capture_output=True, text=True, check=False).stdout.strip()
        text = subprocess.run([paths["aerostat"], "--version"], capture_output=True, text=True,
                              check=True).stdout.split()[-1]
        return f"{text} {commit}".strip()

    def _command(self, memory, hinting, incoming):
        common = [self.paths["aerostat"], "run", "--control", self._at("qmp"),
                  "--serial", "unix:" + self._at("serial")]
        if incoming:
            return common + ["--incoming", "unix:" + incoming]
        return common + self._boot("--", hinting) + [
            "--memory", f"{memory // MIB}M", "--balloon", self._balloon(hinting)]

    def _balloon(self, hinting):
        # Reporting would give back beforehand what hinting is to leave out.
        return f"hinting={'on' if hinting else 'off'},reporting=off"

    def migrate(self, path, downtime):
        self.qmp.call("migrate", {"uri": "unix:" + path, "downtime-limit": downtime})

    def figures(self):
        """Of the move, once it is over."""
        end = self.qmp.event(lambda answer: answer["event"] == "MIGRATION")
        if end["status"] != "completed":
            raise Failure(f"the move {end['status']}: {end.get('error', '')}")
        return {
            "total_ms": end["total_ms"], "downtime_ms": end["downtime_ms"],
            "setup_ms": end["setup_ms"], "report_ms": end["report_ms"],
            "sending_ms": sum(each["ms"] for each in end["rounds"]),
            "bytes": end["bytes_sent"], "bytes_counted": end["bytes_received"],
            "pages_sent": end["pages_sent"], "pages_zero": end["pages_zero"],
            "hints": end["hints_received"], "hinted_pages": end["pages_hinted"],
            "hints_late": end["hints_late"], "rounds": len(end["rounds"]),
        }


class Qemu(Machine):
    name = "QEMU"
    PROGRAM = "qemu-system-x86_64"
    FIRMWARE = ["qboot.rom", "linuxboot_dma.bin", "kvmvapic.bin"]  # that a machine needs

    @staticmethod
    def missing(_):
        found = subprocess.run(["sh", "-c", f"command -v {Qemu.PROGRAM}"],
                               stdout=subprocess.DEVNULL, check=False).returncode == 0
        return None if found else f"{Qemu.PROGRAM} is not installed"

    @staticmethod
    def version(_):
        return subprocess.run([Qemu.PROGRAM, "--version"], capture_output=True, text=True,
                              check=True).stdout.split()[3]

    def _command(self, memory, hinting, incoming):
        # qboot finds the same PVH entry as SeaBIOS does, but at once: where KVM is
        # software, SeaBIOS takes 4 seconds. The guest's first words wait for us.
        command = [self.PROGRAM, "-M", "q35", "-accel", "kvm", "-cpu", "host,-arch-capabilities",
                   "-m", f"{memory // MIB}M", "-bios", self.FIRMWARE[0],
                   *self._boot("-", hinting),
                   "-nodefaults", "-no-user-config", "-display", "none",
                   "-chardev", f"socket,id=serial,path={self._at('serial')},server=on,wait=on",
                   "-serial", "chardev:serial",
                   "-qmp", f"unix:{self._at('qmp')},server=on,wait=off",
                   "-object", "iothread,id=balloon-thread",
                   "-device", "virtio-balloon-pci,disable-legacy=on,iothread=balloon-thread,"
                   + self._balloon(hinting)]
        if "firmware" in self.paths:
            command += ["-L", self.paths["firmware"]]
        return command + (["-incoming", "unix:" + incoming] if incoming else [])

    def _balloon(self, hinting):
        return f"free-page-hint={'on' if hinting else 'off'}"

    def _prepare(self, incoming):
        if not incoming:
            self.qmp.call("migrate-set-capabilities", {
                "capabilities": [{"capability": "events", "state": True}]})

    def migrate(self, path, downtime):
        self.qmp.call("migrate-set-parameters", {
            "max-bandwidth": UNLIMITED, "downtime-limit": downtime})
        self.qmp.call("migrate", {"uri": "unix:" + path})

    def figures(self):
        self.qmp.event(lambda answer: answer["event"] == "MIGRATION" and
                       answer["data"]["status"] in ("completed", "failed", "cancelled"))
        end = self.qmp.call("query-migrate")
        if end["status"] != "completed":
            raise Failure(f"the move {end['status']}: {end.get('error-desc', '')}")
        ram = end["ram"]
        return {
            "total_ms": end["total-time"], "downtime_ms": end["downtime"],
            "setup_ms": end["setup-time"], "bytes": ram["transferred"],
            "pages_sent": ram["normal"], "pages_zero": ram["duplicate"],
            "rounds": ram["dirty-sync-count"],
        }


MONITORS = [Aerostat, Qemu]
