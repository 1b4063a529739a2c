#!/bin/sh
# A stock Debian guest with two CPUs: three moves while it writes, a balloon
# request, a destination that dies, a cancelled move, reboot and power-off.
. "${0%/*}/lib.sh"

RAM_MIB=384
RAM_KB=$((RAM_MIB * 1024))

free_kb() {
	agent "$1.serial" meminfo | sed -n 's/^MemFree //p'
}

# given_back VM KB: all but 16 MiB of what was free before is free again.
given_back() {
	[ "$(free_kb "$1")" -ge $(($2 - 16384)) ]
}

note "booting"
start_vm one --kernel "$KERNEL" --initrd "$INITRD" --memory "${RAM_MIB}M" \
	--cpus 2 --append "console=ttyS0 loglevel=4 panic=-1"
agent_ready one.serial 120 || fail "the guest did not boot"
pass "a stock Debian kernel boots"
agent one.serial devices | grep -q 'virtio_balloon' || fail "no balloon driver"
pass "its stock virtio_balloon driver is bound"
agent one.serial keep 40 11 >/dev/null || fail "keep"
agent one.serial dirty 200 12 >/dev/null || fail "dirty"
agent one.serial writer 8 4 13 >/dev/null || fail "writer"

note "three moves"
move one two --verify
memory_intact two
agent two.serial writer-check >/dev/null || fail "the writer's pages differ"
pass "first move, verified: $(figure two .pages_sent) pages sent"
[ "$(figure two .hints_received)" -gt 0 ] || fail "no hints came"
pass "$(figure two .hints_received) hints came"
MOVE_URI=tcp:127.0.0.1:7411
move two three
memory_intact three
agent three.serial writer-check >/dev/null || fail "the writer's pages differ"
pass "second move, by TCP: $(figure three .pages_sent) pages sent"
MOVE_URI=
move three four --no-hinting
memory_intact four
agent four.serial writer-check >/dev/null || fail "the writer's pages differ"
pass "third move, without hinting: $(figure four .pages_sent) pages sent"

note "balloon"
agent four.serial dirty 180 14 >/dev/null || fail "dirty"
before=$(rss four)
"$AEROSTAT" balloon --control four.sock 192M --wait --json >"$OUT/balloon.json" ||
	fail "balloon: $(cat "$OUT/balloon.json")"
after=$(rss four)
[ "$after" -lt $((before - (100 << 20))) ] ||
	fail "inflating by 192 MiB: resident $before, then $after"
pass "inflated to 192 MiB: resident $((before >> 20)), then $((after >> 20)) MiB"
"$AEROSTAT" balloon --control four.sock "${RAM_MIB}M" --wait --json >/dev/null ||
	fail "deflate"
memory_intact four
pass "deflated, memory intact"

note "a destination that dies, a move that is cancelled"
free=$(free_kb four)
start_vm five --incoming unix:five.move
"$AEROSTAT" migrate --control four.sock --bandwidth 4M unix:five.move \
	>"$OUT/dies.out" 2>&1 &
mover=$!
sleep 4
kill -9 "$(cat five.pid)"
wait "$mover" && fail "the move did not fail"
[ "$(wc -l <"$OUT/dies.out")" = 1 ] || fail "not one line: $(cat "$OUT/dies.out")"
[ "$(state four)" = running ] || fail "the source does not run"
memory_intact four
wait_for 30 given_back four "$free" || fail "free pages were not given back"
pass "the destination died: $(cat "$OUT/dies.out")"
rm -f five.sock five.serial five.move

start_vm six --incoming unix:six.move
"$AEROSTAT" migrate --control four.sock --bandwidth 4M unix:six.move \
	>"$OUT/cancel.out" 2>&1 &
mover=$!
sleep 4
kill -INT "$mover"
wait "$mover"
[ $? = 1 ] || fail "a cancelled move has another status than 1"
[ "$(state four)" = running ] || fail "the source does not run"
end_of_vm six 20
[ $? = 1 ] || fail "the destination did not end with status 1"
[ ! -e six.sock ] && [ ! -e six.serial ] && [ ! -e six.move ] ||
	fail "the destination left sockets"
memory_intact four
wait_for 30 given_back four "$free" || fail "free pages were not given back"
pass "cancelled: $(cat "$OUT/cancel.out")"
move four seven
memory_intact seven
pass "and a move after that succeeds"

note "pause, reboot and power-off"
"$AEROSTAT" pause --control seven.sock || fail "pause"
[ "$(state seven)" = paused ] || fail "not paused"
"$AEROSTAT" resume --control seven.sock || fail "resume"
agent seven.serial ping >/dev/null || fail "no life after resume"
pass "paused and resumed"
: >"$OUT/seven.console"
agent seven.serial reboot >/dev/null
agent_ready seven.serial 120 || fail "the guest did not boot again"
pass "rebooted at the destination"
agent seven.serial poweroff >/dev/null
end_of_vm seven 30 || fail "power-off: status $?"
[ ! -e seven.sock ] && [ ! -e seven.serial ] || fail "sockets are left"
pass "powered off with status 0, no socket left"
