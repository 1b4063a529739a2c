#!/bin/sh
# N moves of a bare guest that keeps writing, by Unix socket and TCP in turn,
# every other one with hashes compared by the destination; memory is checked by
# the guest after each.
. "${0%/*}/lib.sh"

MOVES=${1:-20}
SCHED_OTHER=0
SCHED_BATCH=3

# policy VM THREAD: how its threads of that name are scheduled (proc(5), stat). A
# sanitizer has one too, by the name of the program.
policy() {
	for _task in "/proc/$(cat "$1.pid")"/task/*; do
		[ "$(cat "$_task/comm")" != "$2" ] || cut -d ' ' -f 41 "$_task/stat"
	done | sort -u
}

[ -n "${BARE:-}" ] || fail "no bare guest"
start_vm vm0 --kernel "$BARE" --memory 128M
agent_ready vm0.serial 60 || fail "the bare guest does not answer"
agent vm0.serial keep 16 5 >/dev/null || fail "keep"
agent vm0.serial dirty 60 6 >/dev/null || fail "dirty"
agent vm0.serial writer 8 16 7 >/dev/null || fail "writer"

move=0
while [ "$move" -lt "$MOVES" ]; do
	from=vm$move
	move=$((move + 1))
	to=vm$move
	option=
	MOVE_URI=
	[ $((move % 2)) = 0 ] || option=--verify
	[ $((move % 3)) != 0 ] || MOVE_URI=tcp:127.0.0.1:$((7420 + move))
	move "$from" "$to" $option
	agent "$to.serial" check >"$OUT/check" ||
		fail "move $move: memory differs: $(cat "$OUT/check")"
	agent "$to.serial" writer-check >"$OUT/check" ||
		fail "move $move: the writer's pages differ: $(cat "$OUT/check")"
	rm -f "$from".* "$OUT/$from".*
done
pass "$MOVES moves of a writing guest, memory intact after each"
pass "last: $(figure "$to" .pages_sent) pages in $(figure "$to" '.rounds | length') rounds"

# Guests come before a move, those of the machine that it makes as well.
# A paused guest stays paused, and is asked nothing.
"$AEROSTAT" pause --control "$to.sock" || fail "pause"
begin_move "$to" paused --verify --bandwidth 8M
wait_for 20 under_way "$to" 1 || fail "the move does not move"
is "policy of the source" "$(policy "$to" migration)" $SCHED_BATCH
is "policy of the destination" "$(policy paused incoming)" $SCHED_BATCH
for vm in "$to" paused; do
	for thread in vcpu0 device aerostat; do
		is "policy of $thread of $vm" "$(policy "$vm" $thread)" $SCHED_OTHER
	done
done
end_move "$to" paused
[ "$(state paused)" = paused ] || fail "it runs there"
[ "$(figure paused .hints_received)" = 0 ] || fail "a paused guest hinted"
"$AEROSTAT" resume --control paused.sock || fail "resume"
to=paused
memory_intact "$to"
agent "$to.serial" writer-check >/dev/null || fail "the writer's pages differ"
pass "a paused guest moves paused and runs on when resumed"
agent "$to.serial" poweroff >/dev/null
end_of_vm "$to" 20 || fail "power-off: status $?"
pass "powered off with status 0"
