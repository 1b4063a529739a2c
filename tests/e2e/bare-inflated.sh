#!/bin/sh
# Inflated and reported pages on the move: absent at the destination when they
# are at the source, forgotten there when they come to be while it moves, and
# never stale once the guest has taken them back and written them.
#
#   bare-inflated.sh [PROTOCOL...]		(default: both)
. "${0%/*}/lib.sh"

PROTOCOLS=${*:-standard command-register}
MIB=1048576
RAM_MIB=256

[ -n "${BARE:-}" ] || fail "no bare guest"

# boot VM [OPTION...]
boot() {
	_vm=$1
	shift
	start_vm "$_vm" --kernel "$BARE" --memory "${RAM_MIB}M" \
		--balloon "protocol=$PROTOCOL" "$@"
	agent_ready "$_vm.serial" 60 || fail "the bare guest does not answer"
}

end() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 20 || fail "power-off: status $?"
}

# balloon VM [MIB]: what the guest may keep; waits until it does.
balloon() {
	"$AEROSTAT" balloon --control "$1.sock" ${2:+"$2M"} --wait \
		>"$OUT/$1.balloon" 2>&1 ||
		fail "balloon $2M: $(cat "$OUT/$1.balloon")"
}

# aim VM MIB: the same, without waiting.
aim() {
	"$AEROSTAT" balloon --control "$1.sock" "$2M" >/dev/null
}

target() {
	balloon_of "$1" .target
}

actual() {
	balloon_of "$1" .actual
}

keeps() {
	[ "$(actual "$1")" = $(($2 * MIB)) ]
}

# -------------------------------------------- inflated before the move ---

before() {
	note "$PROTOCOL: inflate, then move"
	boot "before0-$PROTOCOL"
	tell "before0-$PROTOCOL" keep 24 1
	tell "before0-$PROTOCOL" dirty 200 2
	balloon "before0-$PROTOCOL" 96
	move "before0-$PROTOCOL" "before1-$PROTOCOL" --verify
	vm=before1-$PROTOCOL
	is "target there" "$(target "$vm")" $((96 * MIB))
	is "actual there" "$(actual "$vm")" $((96 * MIB))
	_kb=$(mem_in_use "$vm.serial" $((RAM_MIB * 1024))) || fail "no meminfo"
	used=$((_kb * 1024 - 160 * MIB))
	at_most "$PROTOCOL: resident there, 160 MiB being inflated" \
		"$(rss "$vm")" "$used" 115
	memory_intact "$vm"
	# Taken back, each page is written at once.
	tell "$vm" take-deflated 1
	balloon "$vm" 176
	memory_intact "$vm"
	tell "$vm" take-deflated 0
	balloon "$vm" "$RAM_MIB"
	tell "$vm" dirty 120 3
	tell "$vm" keep 60 4
	memory_intact "$vm"
	pass "$PROTOCOL: target kept, 160 MiB deflated and written there, $(head -n 1 "$OUT/$vm.check")"
	end "$vm"
}

# ------------------------------------------------ in the middle of it ---

# What has to happen while the guest is under way may come too late on a slow
# machine: then it is tried again with a slower move.
slower() {
	note "the move was over too early, once more at half the speed"
	rate=$((rate / 2))
	[ "$rate" -ge 4 ] || fail "the move is over too early at any speed"
	from=$to
	tell "$from" take-deflated 0
	tell "$from" untake
	balloon "$from" "$RAM_MIB"
}

inflates() {
	wait_for 20 under_way "$from" 30000 && aim "$from" 64
}

during() {
	note "$PROTOCOL: inflate while it moves"
	rate=32
	from=during-$PROTOCOL
	boot "$from"
	tell "$from" keep 24 5
	tell "$from" dirty 215 6
	# Half of it is sent, and taken then: the destination has to forget it.
	while :; do
		to=during-$PROTOCOL-$rate
		begin_move "$from" "$to" --no-hinting --bandwidth "${rate}M"
		inflates 2>/dev/null && in_time=yes || in_time=no
		end_move "$from" "$to"
		memory_intact "$to"
		[ $in_time = no ] || break
		slower
		tell "$from" dirty 215 6
	done
	wait_for 10 keeps "$to" 64 || fail "the guest does not go on inflating"
	at_most "$PROTOCOL: resident there, 192 MiB being inflated on the way" \
		"$(rss "$to")" $(((RAM_MIB - 192) * MIB)) 105
	balloon "$to" "$RAM_MIB"
	tell "$to" keep 100 7
	memory_intact "$to"
	pass "$PROTOCOL: inflated while it moved, taken back there, $(head -n 1 "$OUT/$to.check")"
}

inflates_and_deflates() {
	wait_for 20 under_way "$from" 6000 && aim "$from" 140 &&
		wait_for 10 keeps "$from" 140 &&
		poke "$from" take-deflated 1 && aim "$from" 180 &&
		wait_for 10 keeps "$from" 180 &&
		poke "$from" report-now && poke "$from" keep 16 9 &&
		[ "$(state "$from")" = running ]
}

again() {
	note "$PROTOCOL: inflate, deflate and report while it moves"
	rate=24
	while :; do
		from=$to
		to=again-$PROTOCOL-$rate
		tell "$from" dirty 80 8
		begin_move "$from" "$to" --no-hinting --bandwidth "${rate}M"
		inflates_and_deflates 2>/dev/null && in_time=yes || in_time=no
		end_move "$from" "$to"
		memory_intact "$to"
		[ $in_time = no ] || break
		slower
	done
	is "target there" "$(target "$to")" $((180 * MIB))
	tell "$to" take-deflated 0
	balloon "$to" "$RAM_MIB"
	tell "$to" keep 8 10
	memory_intact "$to"
	is "frames used on their way" "$(counter "$to" early-uses)" 0
	pass "$PROTOCOL: inflated, deflated, reported and taken back while it moved, $(head -n 1 "$OUT/$to.check")"
	end "$to"
}

# ------------------------------------ the move comes in the middle of it ---

between() {
	note "$PROTOCOL: a target that is not reached yet"
	boot "between0-$PROTOCOL"
	tell "between0-$PROTOCOL" keep 24 11
	tell "between0-$PROTOCOL" dirty 200 12
	"$AEROSTAT" pause --control "between0-$PROTOCOL.sock" || fail "pause"
	aim "between0-$PROTOCOL" 80 || fail "balloon 80M"
	move "between0-$PROTOCOL" "between1-$PROTOCOL" --verify
	vm=between1-$PROTOCOL
	is "target there" "$(target "$vm")" $((80 * MIB))
	is "actual there, paused" "$(actual "$vm")" $((RAM_MIB * MIB))
	"$AEROSTAT" resume --control "$vm.sock" || fail "resume"
	balloon "$vm"
	memory_intact "$vm"
	pass "$PROTOCOL: a target set while paused is reached after the move"

	# Caught between two buffers, and with one on its way.
	from=$vm
	to=between2-$PROTOCOL
	aim "$from" "$RAM_MIB" || fail "balloon ${RAM_MIB}M"
	"$AEROSTAT" pause --control "$from.sock" || fail "pause"
	at=$(actual "$from")
	move "$from" "$to" --verify
	is "actual there" "$(actual "$to")" "$at"
	is "target there" "$(target "$to")" $((RAM_MIB * MIB))
	"$AEROSTAT" resume --control "$to.sock" || fail "resume"
	balloon "$to"
	tell "$to" keep 100 13
	memory_intact "$to"
	is "frames used on their way" "$(counter "$to" early-uses)" 0
	if [ "$at" -lt $((RAM_MIB * MIB)) ]; then
		pass "$PROTOCOL: deflating goes on there from $((at / MIB)) MiB, $(head -n 1 "$OUT/$to.check")"
	else
		skip "$PROTOCOL: the guest had deflated before the pause came"
	fi
	end "$to"
}

for PROTOCOL in $PROTOCOLS; do
	before
	during
	again
	between
done
