#!/bin/sh
# Hint, then reuse: the bare guest takes blocks back right after it made them
# available and writes each exactly once, before the device has processed the
# hint (VIRTIO 1.3 section 5.5.6.6.1 allows it, hazard R1). Every word it holds
# is compared after each of N migrations.
. "${0%/*}/lib.sh"

MOVES=${1:-100}
MEMORY=192M

[ -n "${BARE:-}" ] || fail "no bare guest"

count_of() {
	agent "$1.serial" counters | sed -n "s/^$2 //p"
}

start_vm vm0 --kernel "$BARE" --memory "$MEMORY"
agent_ready vm0.serial 60 || fail "the bare guest does not answer"
agent vm0.serial keep 24 3 >/dev/null || fail "keep"
agent vm0.serial dirty 120 4 >/dev/null || fail "dirty"
agent vm0.serial take 3 >/dev/null || fail "take"

intact=0
move=0
while [ "$move" -lt "$MOVES" ]; do
	from=vm$move
	move=$((move + 1))
	to=vm$move
	move "$from" "$to"
	agent "$to.serial" check >"$OUT/check" ||
		fail "move $move: memory differs: $(cat "$OUT/check")"
	intact=$((intact + 1))
	[ "$move" = "$MOVES" ] && break
	agent "$to.serial" untake >/dev/null || fail "untake"
	rm -f "$from".* "$OUT/$from".*
done

taken=$(count_of "$to" taken)
window=$(count_of "$to" window)
hints=$(figure "$to" .hints_received)
[ "$hints" -gt 0 ] || fail "no hints came in the last move"
pass "$intact of $MOVES migrations intact"
[ "$window" -ge $((MOVES * 10)) ] ||
	fail "only $window of $taken blocks were written before the device saw them"
pass "$window of $taken blocks taken back were written in the window"
note "last move: $hints hints, $(figure "$to" .pages_hinted) pages left out"
