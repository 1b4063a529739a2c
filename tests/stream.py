#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second reader of the migration stream, written from docs/spec/stream.md.

usage: stream.py [--no-hashes] [FILE...]        (no FILE, or -: standard input)

Reads what a source sent, from the header to COMMIT, checks all that the
specification demands of it and prints what it holds. It shares no code with
src/migration/. Exit: 0 sound, 1 a stream has a fault, 2 wrong usage.
"""
import struct
import sys

PAGE = 4096
MIB = 1 << 20
VERSION = 1
LOW_LIMIT = 0xC0000000
HIGH_START = 0x100000000

# Section 3 and 4: types, and the step of the conversation each belongs to.
# Within a step any order; a later step never goes back.
CONFIG, CPUID, PAGES, ZERO = 0x01, 0x02, 0x10, 0x11
STATE, VERIFY, END, COMMIT = 0x20, 0x30, 0x3F, 0x40
WAITING, ANNOUNCE = 0x80000001, 0x80000002
OPTIONAL = 0x80000000
NAMES = {CONFIG: "CONFIG", CPUID: "CPUID", PAGES: "PAGES", ZERO: "ZERO",
         STATE: "STATE", VERIFY: "VERIFY", END: "END", COMMIT: "COMMIT",
         WAITING: "WAITING", ANNOUNCE: "ANNOUNCE"}
STEP = {CONFIG: 0, CPUID: 1, WAITING: 2, ANNOUNCE: 2, PAGES: 2, ZERO: 2,
        VERIFY: 3, STATE: 4, END: 5, COMMIT: 6}
ONCE = {CONFIG, CPUID, END, COMMIT}
PROTOCOLS = {"standard", "command-register", "v17"}

MACHINE, IRQCHIP, VCPU, SERIAL, BALLOON, CLOCK = 1, 2, 3, 4, 5, 6
STATE_NAMES = {1: "MACHINE", 2: "IRQCHIP", 3: "VCPU", 4: "SERIAL",
               5: "BALLOON", 6: "CLOCK"}
# struct kvm_irqchip: u32 id, u32 pad, 512 bytes.
STATE_SIZES = {MACHINE: 8, IRQCHIP: 3 * 520, SERIAL: 9 + 64, CLOCK: 16}


class Fault(Exception):
    """The stream does not keep to the specification."""


def demand(holds, why, *values):
    if not holds:
        raise Fault(why % values if values else why)


# ------------------------------------------------------------------ XXH3 ---
# github.com/Cyan4973/xxHash, doc/xxhash_spec.md: XXH3 64, seed 0, inputs over
# 240 bytes. A run is never shorter than a page.

M64 = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F,
                       0x165667B19E3779F9)
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")
STRIPE = 64
PER_BLOCK = (len(SECRET) - STRIPE) // 8
BLOCK = STRIPE * PER_BLOCK


def secret_words(at):
    return struct.unpack_from("<8Q", SECRET, at)


STRIPE_SECRETS = [secret_words(8 * n) for n in range(PER_BLOCK)]
LAST_SECRET = secret_words(len(SECRET) - STRIPE - 7)
SCRAMBLE_SECRET = secret_words(len(SECRET) - STRIPE)


def accumulate(acc, lanes, secret):
    for i in range(8):
        data = lanes[i]
        key = data ^ secret[i]
        acc[i ^ 1] += data
        acc[i] += (key & 0xFFFFFFFF) * (key >> 32)
    for i in range(8):
        acc[i] &= M64


def scramble(acc):
    for i in range(8):
        value = acc[i]
        value ^= value >> 47
        value ^= SCRAMBLE_SECRET[i]
        acc[i] = value * P32_1 & M64


def xxh3(data):
    """XXH3 64 of more than 240 bytes."""
    size = len(data)
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    blocks = (size - 1) // BLOCK
    stripes = (size - 1 - blocks * BLOCK) // STRIPE
    for block in range(blocks + 1):
        for n in range(PER_BLOCK if block < blocks else stripes):
            accumulate(acc, struct.unpack_from("<8Q", data,
                                               block * BLOCK + n * STRIPE),
                       STRIPE_SECRETS[n])
        if block < blocks:
            scramble(acc)
    accumulate(acc, struct.unpack_from("<8Q", data, size - STRIPE),
               LAST_SECRET)
    result = size * P64_1 & M64
    merge = struct.unpack_from("<8Q", SECRET, 11)
    for i in range(0, 8, 2):
        product = (acc[i] ^ merge[i]) * (acc[i + 1] ^ merge[i + 1])
        result += (product & M64) ^ (product >> 64)
    result &= M64
    result ^= result >> 37
    result = result * 0x165667919E3779F9 & M64
    return result ^ result >> 32


# ---------------------------------------------------------------- reading ---

class Input:
    """Bytes from a file, counted."""

    def __init__(self, file):
        self.file = file
        self.at = 0

    def take(self, count, what):
        parts, left = [], count
        while left:
            part = self.file.read(left)
            demand(part, "the stream ends within %s", what)
            parts.append(part)
            left -= len(part)
        self.at += count
        return b"".join(parts)

    def ended(self):
        return not self.file.read(1)


class Payload:
    """Fields of one record."""

    def __init__(self, data, what):
        self.data, self.what, self.at = data, what, 0

    def take(self, count):
        demand(count <= len(self.data) - self.at, "%s is cut short",
               self.what)
        self.at += count
        return self.data[self.at - count:self.at]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def text(self):
        text = self.take(self.u32())
        demand(0 not in text, "%s: a text holds a zero byte", self.what)
        return text.decode(errors="replace")

    def end(self):
        demand(self.at == len(self.data), "%s has %d bytes too many",
               self.what, len(self.data) - self.at)


class Frames:
    """A set of frames, as a byte each in chunks that exist when needed."""

    CHUNK = 1 << 15

    def __init__(self):
        self.chunk = {}

    def pieces(self, first, count):
        while count:
            number, start = divmod(first, self.CHUNK)
            some = min(count, self.CHUNK - start)
            if number not in self.chunk:
                self.chunk[number] = bytearray(self.CHUNK)
            yield self.chunk[number], start, some
            first += some
            count -= some

    def put(self, first, count, value):
        for chunk, start, some in self.pieces(first, count):
            chunk[start:start + some] = bytes([value]) * some

    def all(self, first, count):
        return all(0 not in chunk[start:start + some]
                   for chunk, start, some in self.pieces(first, count))

    def count(self):
        return sum(sum(chunk) for chunk in self.chunk.values())


class Stream:
    """One stream, read and checked from front to back."""

    def __init__(self, file, hashes=True):
        self.input = Input(file)
        self.hashes = hashes
        self.step = -1
        self.seen = {}      # type: [records, bytes]
        self.came = Frames()
        self.content = {}   # frame: bytes, kept for VERIFY only
        self.announced = [] # (first, count), still to come
        self.states = []    # (kind, instance)
        self.pages = self.zeroed = self.verified = 0
        self.verify = False
        self.record_at = 0

    def read(self):
        self.header()
        while self.step < STEP[COMMIT]:
            self.record()
        demand(self.input.ended(), "bytes follow COMMIT")

    def header(self):
        magic, version, oldest, flags, _ = struct.unpack(
            "<8s4I", self.input.take(24, "the header"))
        demand(magic == b"AEROSTAT", "the magic is %r", magic)
        demand(oldest <= VERSION, "a reader of version %d is needed", oldest)
        demand(oldest <= version, "oldest %d is above the version %d",
               oldest, version)
        demand(version > VERSION or not flags & ~1, "unknown flags %#x",
               flags)
        self.version, self.oldest = version, oldest
        self.verify = bool(flags & 1)

    def record(self):
        self.record_at = self.input.at
        kind, _, length = struct.unpack("<IIQ",
                                        self.input.take(16, "a record"))
        if kind not in NAMES:
            self.unknown(kind, length)
            return
        name, step = NAMES[kind], STEP[kind]
        in_turn = (step == self.step + 1 if step < 2 or step > 5 else
                   step >= self.step and self.step >= 1)
        if kind in ONCE:
            in_turn = in_turn and step > self.step
        demand(in_turn, "%s is out of place", name)
        self.check_length(kind, name, length)
        self.step = step
        demand(step <= STEP[PAGES] or not self.announced,
               "%s comes before what was announced", name)
        handler = getattr(self, "on_" + name.lower())
        payload = Payload(self.input.take(length, name), name)
        handler(payload)
        payload.end()
        self.count(name, length)

    def count(self, name, length):
        entry = self.seen.setdefault(name, [0, 0])
        entry[0] += 1
        entry[1] += length + 16

    def unknown(self, kind, length):
        demand(kind & OPTIONAL, "unknown record %#x", kind)
        demand(length <= MIB, "unknown record %#x of %d bytes", kind, length)
        self.input.take(length, "an unknown record")
        self.count("unknown %#x" % kind, length)

    def check_length(self, kind, name, length):
        """Before room is made for the payload."""
        fits = {
            CONFIG: length <= 16384,
            CPUID: length <= 16384,
            PAGES: 16 + PAGE <= length <= 16 + 1024 * PAGE,
            ZERO: length and length % 16 == 0 and length // 16 <= 4096,
            STATE: 8 <= length <= MIB,
            VERIFY: length and length % 24 == 0 and length // 24 <= 4096,
            END: length == 8,
            COMMIT: length == 0,
            WAITING: length == 0,
            ANNOUNCE: length and length % 16 == 0 and length // 16 <= 4096,
        }
        demand(fits[kind], "%s has a length of %d", name, length)

    # -------------------------------------------------------- payloads ---

    def on_config(self, p):
        self.name = p.text()
        self.memory = p.u64()
        self.cpus = p.u32()
        for _ in "kernel", "initrd":
            path, content = p.text(), p.u64()
            demand(bool(path) == bool(content),
                   "CONFIG: a file without a hash, or the reverse")
        p.text()
        self.balloon, offered, numbering = p.u32(), p.u32(), p.u32()
        protocol = p.text()
        p.u64()
        backing = p.u32()
        demand(self.memory and self.memory % PAGE == 0,
               "CONFIG: memory of %d bytes", self.memory)
        demand(self.cpus, "CONFIG: no CPU")
        for value in self.balloon, numbering:
            demand(value <= 1, "CONFIG: %d is neither 0 nor 1", value)
        demand(offered < 256, "CONFIG: unknown balloon features %#x", offered)
        demand(protocol in PROTOCOLS, "CONFIG: protocol '%s' is not known",
               protocol)
        demand(backing <= 2, "CONFIG: backing %d is not known", backing)
        self.low_end = min(self.memory, LOW_LIMIT) // PAGE
        self.high_start = HIGH_START // PAGE
        self.high_end = (self.high_start +
                         max(0, self.memory - LOW_LIMIT) // PAGE)

    def on_cpuid(self, p):
        p.u32()
        for _ in range(p.u32()):
            p.take(28)

    def run(self, p):
        first, count = p.u64(), p.u64()
        end = first + count
        demand(count, "%s: a run of no pages", p.what)
        demand(end <= self.low_end or
               self.high_start <= first and end <= self.high_end,
               "%s: frames %#x to %#x are not all RAM", p.what, first,
               end - 1)
        return first, count

    def on_pages(self, p):
        first, count = self.run(p)
        demand(count <= 1024, "PAGES: %d pages", count)
        data = p.take(count * PAGE)
        if (first, count) in self.announced:
            demand(self.announced.pop(0) == (first, count),
                   "PAGES: frames %#x to %#x come out of the order announced",
                   first, first + count - 1)
        self.pages += count
        self.came.put(first, count, 1)
        if self.verify and self.hashes:
            for i in range(count):
                self.content[first + i] = data[i * PAGE:(i + 1) * PAGE]

    def on_zero(self, p):
        while p.at < len(p.data):
            first, count = self.run(p)
            demand(self.came.all(first, count),
                   "ZERO: of frames %#x to %#x not all came before", first,
                   first + count - 1)
            self.came.put(first, count, 0)
            self.zeroed += count
            for frame in range(first, first + count):
                self.content.pop(frame, None)

    def on_waiting(self, p):
        pass

    def on_announce(self, p):
        while p.at < len(p.data):
            first, count = self.run(p)
            demand(count <= 1024, "ANNOUNCE: %d pages", count)
            self.announced.append((first, count))

    def on_verify(self, p):
        demand(self.verify, "VERIFY was not announced")
        while p.at < len(p.data):
            first, count = self.run(p)
            wanted = p.u64()
            self.verified += count
            if not self.hashes:
                continue
            found = xxh3(b"".join(self.content.get(frame, bytes(PAGE))
                                  for frame in range(first, first + count)))
            demand(found == wanted,
                   "VERIFY: frames %#x to %#x hash to %#x, not %#x", first,
                   first + count - 1, found, wanted)

    def on_state(self, p):
        kind, instance = p.u32(), p.u32()
        demand(kind in STATE_NAMES, "STATE of unknown kind %d", kind)
        name = STATE_NAMES[kind]
        demand(instance < (self.cpus if kind == VCPU else 1),
               "STATE %s of instance %d", name, instance)
        demand((kind, instance) not in self.states, "STATE %s %d comes twice",
               name, instance)
        demand((CLOCK, 0) not in self.states, "STATE %s comes behind CLOCK",
               name)
        demand(kind != BALLOON or self.balloon, "STATE of no balloon")
        self.states.append((kind, instance))
        demand(len(self.states) <= 64, "more than 64 STATE records")
        size = len(p.data) - p.at
        demand(size == STATE_SIZES.get(kind, size), "STATE %s of %d bytes",
               name, size)
        if kind == VCPU:
            for part in range(1, 10):
                found = p.u32()
                demand(found == part, "STATE VCPU: part %d instead of %d",
                       found, part)
                p.take(p.u32())
        elif kind == SERIAL:
            demand(p.take(9)[8] <= 64, "STATE SERIAL: more than a FIFO holds")
            p.take(64)
        else:
            p.take(size)

    def on_end(self, p):
        self.runs = p.u32()
        p.u32()
        demand(self.runs <= 1, "END: run is %d", self.runs)
        wanted = {(MACHINE, 0), (IRQCHIP, 0), (SERIAL, 0), (CLOCK, 0)}
        wanted |= {(VCPU, cpu) for cpu in range(self.cpus)}
        wanted |= {(BALLOON, 0)} if self.balloon else set()
        lacks = wanted - set(self.states)
        demand(not lacks, "STATE %s is missing", ", ".join(
            "%s %d" % (STATE_NAMES[k], i) for k, i in sorted(lacks)))

    def on_commit(self, p):
        pass

    # --------------------------------------------------------- summary ---

    def summary(self):
        lines = ["version %d, for readers from %d; guest '%s', %d MiB, "
                 "%d CPUs, %s" % (self.version, self.oldest, self.name,
                                  self.memory >> 20, self.cpus,
                                  "running" if self.runs else "paused")]
        for name, (records, size) in self.seen.items():
            lines.append("%-10s %8d records %14d bytes" % (name, records,
                                                           size))
        lines.append("pages      %8d sent, %d left at the end; %d zeroed, "
                     "%d verified" % (self.pages, self.came.count(),
                                      self.zeroed, self.verified))
        lines.append("total      %8d bytes" % self.input.at)
        return lines


def check(name, file, hashes):
    """Return: whether the stream is sound."""
    stream = Stream(file, hashes)
    try:
        stream.read()
    except Fault as fault:
        print("%s: fault in what begins at byte %d: %s" %
              (name, stream.record_at, fault))
        return False
    for line in stream.summary():
        print("%s: %s" % (name, line))
    return True


def main(arguments):
    hashes = "--no-hashes" not in arguments
    names = [a for a in arguments if a != "--no-hashes"] or ["-"]
    sound = True
    for name in names:
        if name.startswith("-") and name != "-":
            print(__doc__, file=sys.stderr)
            return 2
        try:
            if name == "-":
                sound &= check(name, sys.stdin.buffer, hashes)
                continue
            with open(name, "rb") as file:
                sound &= check(name, file, hashes)
        except OSError as error:
            print("%s: %s" % (name, error.strerror), file=sys.stderr)
            return 2
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
