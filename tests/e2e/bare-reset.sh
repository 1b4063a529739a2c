#!/bin/sh
# Whatever comes in the middle of a move: a reset by the guest or by the host,
# while it runs or stands still, a new balloon target, a pause, a cancel. What
# comes, when and how fast the move is, is drawn by a seed; the same seed draws
# the same again. (What it meets there, also depends on the machine's speed.)
#
#   bare-reset.sh PROTOCOL [MOVES]		SEED=N replays
#
# A guest that was reset begins anew and keeps nothing; any other has every word
# it kept. Either way it then works as one does that nothing happened to.
. "${0%/*}/lib.sh"

PROTOCOL=${1:-standard}
MOVES=${2:-16}
RAM_MIB=192
read -r _now _ </proc/uptime
SEED=${SEED:-${_now%.*}${_now#*.}}
EVENTS="reboot reset reset-paused pause resize cancel report nothing"

[ -n "${BARE:-}" ] || fail "no bare guest"

# draw N: sets drawn to 0 .. N-1.
state=$((SEED % 2147483648))
draw() {
	state=$(((state * 1103515245 + 12345) % 2147483648))
	drawn=$((state / 65536 % $1))
}

# pick WORD...: sets picked to one of them.
pick() {
	draw $#
	shift "$drawn"
	picked=$1
}

control() {
	_what=$1
	shift
	"$AEROSTAT" "$_what" --control "$@" >/dev/null 2>&1
}

# ping VM: a guest that boots may lose one.
answers() {
	wait_for 15 agent_pings "$1.serial" ||
		fail "$SEED: $1 does not answer after $event"
}

# is WHAT A B
is() {
	[ "$2" = "$3" ] || fail "$SEED: $1: $2, not $3"
}

# ---------------------------------------------------------------- events ---

# Each happens at the source, or came too late: then its status is not 0. A
# guest that stands still while it is moved does so there, too.

do_reboot() {
	poke "$1" reboot
}

do_reset() {
	qmp "$1" system_reset | grep -q return
}

do_reset_paused() {
	control pause "$1.sock" && do_reset "$1"
	_status=$?
	[ "$resumes" = there ] || control resume "$1.sock"
	return $_status
}

do_pause() {
	control pause "$1.sock" || return 1
	[ "$resumes" = there ] || control resume "$1.sock"
}

do_resize() {
	control balloon "$1.sock" "${target}M"
}

do_cancel() {
	qmp "$1" migrate_cancel | grep -q return
}

do_report() {
	poke "$1" report-now
}

do_nothing() {
	:
}

# came WHAT: one more of them was in time.
came() {
	for _event in $EVENTS; do
		[ "$_event" != "$1" ] || eval "count_$(echo "$1" | tr - _)=\$((\${count_$(echo "$1" | tr - _):-0} + 1))"
	done
}

told() {
	for _event in $EVENTS; do
		eval "_count=\${count_$(echo "$_event" | tr - _):-0}"
		printf '%s %s, ' "$_event" "$_count"
	done
}

# ---------------------------------------------------------------- a move ---

# After a reset there is nothing kept; the guest says so by itself.
kept_pages() {
	agent "$1.serial" check >"$OUT/$1.check" ||
		fail "$SEED: memory of $1 differs after $event: $(cat "$OUT/$1.check")"
	sed -n 's/^pages \([0-9]*\) bad 0$/\1/p' "$OUT/$1.check"
}

# all_there: what was kept is, beside blocks taken back during the report.
all_there() {
	[ "$pages" -ge "$held" ] ||
		fail "$SEED: $pages pages are kept after $event, not $held"
}

# judge VM: is all as it must be after the event?
judge() {
	[ "$("$AEROSTAT" status --control "$1.sock" --json | jq -r .state)" != paused ] ||
		control resume "$1.sock"
	answers "$1"
	pages=$(kept_pages "$1") || { echo "$pages"; exit 1; }
	case $event in
	reboot | reset | reset-paused)
		# Else it went before it could be asked to.
		if [ "$pages" = 0 ]; then
			came "$event"
			held=0
		else
			all_there
		fi
		;;
	*)
		all_there
		[ "$late" != 0 ] || came "$event"
		;;
	esac
}

# work VM: as one does that nothing happened to.
work() {
	is "device broken" "$(balloon_of "$1" .broken)" false
	is "protocol" "$(balloon_of "$1" .protocol)" "$PROTOCOL"
	"$AEROSTAT" balloon --control "$1.sock" "${RAM_MIB}M" --wait \
		>"$OUT/$1.balloon" 2>&1 ||
		fail "$SEED: after $event: $(cat "$OUT/$1.balloon")"
	agent "$1.serial" untake >/dev/null || fail "untake"
	if [ "$held" -ge 16384 ]; then # 64 MiB: begin anew
		agent "$1.serial" reboot >/dev/null || fail "reboot"
		answers "$1"
		held=0
	fi
	agent "$1.serial" keep 12 "$move" >/dev/null || fail "keep"
	held=$((held + 12 * 256))
	agent "$1.serial" dirty 60 "$move" >/dev/null || fail "dirty"
	agent "$1.serial" take 2 8 >/dev/null || fail "take"
}

# try FROM TO: a move in which something happens.
try() {
	pick $EVENTS
	event=$picked
	pick --no-hinting "" "" ""
	hinting=$picked
	pick here there
	resumes=$picked
	draw 120
	target=$((48 + drawn))
	draw 100
	rate=$((20 + drawn))
	# Half of them while the guest is asked for its report.
	pick 40 400
	draw "$picked"
	delay=$(printf '0.%03d' "$drawn")
	# shellcheck disable=SC2086
	begin_move "$1" "$2" --bandwidth "${rate}M" $hinting
	sleep "$delay"
	late=0
	"do_$(echo "$event" | tr - _)" "$1" || late=1
	wait "$MOVER"
	moved=$?
	note "$move: $event after $delay s at $rate MiB/s $hinting: $(jq -r .status "$OUT/$2.json")"
}

current=vm0
start_vm vm0 --kernel "$BARE" --memory "${RAM_MIB}M" \
	--balloon "protocol=$PROTOCOL"
agent_ready vm0.serial 60 || fail "the bare guest does not answer"
note "protocol $PROTOCOL, SEED=$SEED"

held=0
move=0
event=nothing
while [ "$move" -lt "$MOVES" ]; do
	work "$current"
	move=$((move + 1))
	next=vm$move
	try "$current" "$next"
	if [ "$moved" = 0 ]; then
		end_of_vm "$current" 20 ||
			fail "$SEED: $current did not end with status 0"
		rm -f "$current".* "$OUT/$current".*
		current=$next
	else
		[ "$event" = cancel ] ||
			fail "$SEED: $event: the move failed: $(cat "$OUT/$next.err")"
		end_of_vm "$next" 20
		is "status of a destination whose source gave up" $? 1
		rm -f "$next".*
	fi
	judge "$current"
done
work "$current"
pages=$(kept_pages "$current") || { echo "$pages"; exit 1; }
all_there
pass "$PROTOCOL: $MOVES moves, SEED=$SEED, in time: $(told)memory as it must be each time"
agent "$current.serial" poweroff >/dev/null
end_of_vm "$current" 20 || fail "power-off: status $?"
pass "$PROTOCOL: powered off with status 0"
