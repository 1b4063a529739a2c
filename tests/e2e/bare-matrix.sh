#!/bin/sh
# One combination of what a machine can be made of: its guest hints, takes hinted
# blocks back, inflates, reports and keeps writing; it is moved there and back,
# once with hashes, and looks at every word each time.
#
#   bare-matrix.sh PROTOCOL BACKING CPUS FEATURES
#
# PROTOCOL: standard, command-register or v17. BACKING: anonymous, memfd or hugetlb.
# FEATURES: on, or off: the balloon offers what its protocol needs and no more.
. "${0%/*}/lib.sh"

PROTOCOL=${1:-standard}
BACKING=${2:-anonymous}
CPUS=${3:-1}
FEATURES=${4:-on}
WHAT="$PROTOCOL, $BACKING, $CPUS CPUs, features $FEATURES"
MIB=1048576
POOL_PAGES=160			# two machines of 128 MiB, and some

[ -n "${BARE:-}" ] || fail "no bare guest"

if [ "$BACKING" = hugetlb ] && ! have_huge_pages $POOL_PAGES; then
	skip "$WHAT: $(free_huge_pages) huge pages are free and $POOL_PAGES are needed"
	exit 0
fi

# --------------------------------------------------------------- options ---

options="protocol=$PROTOCOL"
hints=yes
if [ "$FEATURES" = off ]; then
	options="$options,reporting=off,stats=off,poison=off"
	options="$options,deflate-on-oom=off,must-tell-host=off"
	if [ "$PROTOCOL" = standard ]; then
		options="$options,hinting=off"
		hints=no
	fi
fi

# is WHAT A B
is() {
	[ "$2" = "$3" ] || fail "$WHAT: $1: $2, not $3"
}

# balloon VM MIB: what the guest may keep; waits until it does.
balloon() {
	"$AEROSTAT" balloon --control "$1.sock" "$2M" --wait \
		>"$OUT/$1.balloon" 2>&1 ||
		fail "balloon $2M: $(cat "$OUT/$1.balloon")"
}

# What can be reported is.
report() {
	[ "$FEATURES" = off ] || tell "$1" report-now
}

# intact VM MIB: memory, the writer's too, the target, nothing broken.
intact() {
	memory_intact "$1"
	writer_intact "$1"
	is "target" "$(balloon_of "$1" .target)" $(($2 * MIB))
	is "protocol" "$(balloon_of "$1" .protocol)" "$PROTOCOL"
	is "device broken" "$(balloon_of "$1" .broken)" false
	is "frames used on their way" "$(counter "$1" early-uses)" 0
}

# -------------------------------------------------------------- the guest ---

note "$WHAT"
start_vm here --kernel "$BARE" --memory 128M --cpus "$CPUS" \
	--backing "$BACKING" --balloon "$options"
agent_ready here.serial 60 || fail "the bare guest does not answer"
is "backing" "$("$AEROSTAT" status --control here.sock --json | jq -r .backing)" \
	"$BACKING"
tell here keep 16 1
tell here dirty 80 2
tell here writer 8 8 3
tell here take 3 4
balloon here 96
report here

move here there --verify
intact there 96
if [ $hints = yes ]; then
	# With v17 the guest's STOP may overtake all of a report.
	[ "$(figure there .hints_received)" -gt 0 ] ||
		[ "$PROTOCOL" = v17 ] || fail "no hints came"
	[ "$(counter there window)" -gt 0 ] ||
		fail "no block was written in the window"
else
	is "hints" "$(figure there .hints_received)" 0
fi
there="$(figure there '"\(.pages_sent) pages sent, \(.pages_hinted) left out"'), $(counter there window) blocks taken back in the window"

tell there keep 4 4
tell there take-deflated 1
balloon there 112
tell there untake
tell there dirty 30 5
report there
move there back
intact back 112
tell back take-deflated 0
balloon back 128
tell back keep 24 6
report back
intact back 128
pass "$WHAT: there and back: $there, $(head -n 1 "$OUT/back.check"), the writer's $(sed -n 's/^pages //p' "$OUT/back.writer")"
agent back.serial poweroff >/dev/null
end_of_vm back 20 || fail "power-off: status $?"
