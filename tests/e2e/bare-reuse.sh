#!/bin/sh
# Hint, then reuse: the bare guest takes blocks back right after it made them
# available and writes each exactly once, before the device has processed the
# hint (VIRTIO 1.3 section 5.5.6.6.1 allows it: D30, V9; hazards R1, R2, R12). Every word it holds
# is compared after each of N migrations.
#
#   bare-reuse.sh [PROTOCOL] [MOVES]	(default: standard, 100; others 20)
. "${0%/*}/lib.sh"

PROTOCOL=standard
MOVES=
for word; do
	case $word in
	*[!0-9]*) PROTOCOL=$word ;;
	*) MOVES=$word ;;
	esac
done
[ "$PROTOCOL" = standard ] && MOVES=${MOVES:-100} || MOVES=${MOVES:-20}
MEMORY=192M

[ -n "${BARE:-}" ] || fail "no bare guest"

start_vm vm0 --kernel "$BARE" --memory "$MEMORY" \
	--balloon "protocol=$PROTOCOL"
agent_ready vm0.serial 60 || fail "the bare guest does not answer"
agent vm0.serial keep 24 3 >/dev/null || fail "keep"
agent vm0.serial dirty 120 4 >/dev/null || fail "dirty"
agent vm0.serial take 3 >/dev/null || fail "take"

intact=0
hinted=0
move=0
while [ "$move" -lt "$MOVES" ]; do
	from=vm$move
	move=$((move + 1))
	to=vm$move
	move "$from" "$to"
	agent "$to.serial" check >"$OUT/check" ||
		fail "move $move: memory differs: $(cat "$OUT/check")"
	intact=$((intact + 1))
	[ "$(figure "$to" .hints_received)" = 0 ] || hinted=$((hinted + 1))
	[ "$move" = "$MOVES" ] && break
	agent "$to.serial" untake >/dev/null || fail "untake"
	rm -f "$from".* "$OUT/$from".*
done

taken=$(counter "$to" taken)
window=$(counter "$to" window)
# With v17 the guest's STOP may overtake all of a report.
[ "$hinted" = "$MOVES" ] || { [ "$PROTOCOL" = v17 ] && [ "$hinted" -gt 0 ]; } ||
	fail "hints came in $hinted of $MOVES moves only"
[ "$(balloon_of "$to" .protocol)" = "$PROTOCOL" ] ||
	fail "the guest does not speak $PROTOCOL"
pass "$PROTOCOL: $intact of $MOVES migrations intact"
# How many depends on how fast the device is; without any nothing was shown.
[ "$window" -ge $((MOVES * 5)) ] ||
	fail "only $window of $taken blocks were written before the device saw them"
pass "$window of $taken blocks taken back were written in the window"
note "last move: $(figure "$to" .hints_received) hints, $(figure "$to" .pages_hinted) pages left out"
