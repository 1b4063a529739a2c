#!/bin/sh
# The balloon and huge pages: small pages go in, 1 MiB at a time and no multiple of
# 2 MiB in all, and the host's huge pages stay whole or come back whole; what is
# taken back is written at the earliest moment, and keeps what was written however
# long one waits.
#
#   bare-huge.sh [anonymous|hugetlb...]
. "${0%/*}/lib.sh"

BACKINGS=${*:-anonymous hugetlb}
MIB=1048576
RAM_MIB=256
BALLOON=			# keys of --balloon
POOL_PAGES=280			# two machines, and some

[ -n "${BARE:-}" ] || fail "no bare guest"

# boot VM BACKING [WORD...]
boot() {
	_vm=$1
	_backing=$2
	shift 2
	start_vm "$_vm" --kernel "$BARE" --memory "${RAM_MIB}M" \
		--backing "$_backing" --append "$*" \
		${BALLOON:+"--balloon=$BALLOON"}
	agent_ready "$_vm.serial" 60 || fail "the bare guest does not answer"
	tell "$_vm" keep 16 1
	tell "$_vm" dirty 220 2
}

end() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 20 || fail "power-off: status $?"
}

huge() {
	"$AEROSTAT" status --control "$1.sock" --json | jq -r .huge_bytes
}

# balloon VM MIB: what the guest may keep; waits until it does.
balloon() {
	"$AEROSTAT" balloon --control "$1.sock" "$2M" --wait >"$OUT/$1.balloon" \
		2>&1 || fail "balloon $2M: $(cat "$OUT/$1.balloon")"
}

nothing_waits() {
	[ "$(balloon_of "$1" .held_pages)" = 0 ]
}

# ask VM MIB: the same without the wait.
ask() {
	"$AEROSTAT" balloon --control "$1.sock" "$2M" >"$OUT/$1.balloon" 2>&1 ||
		fail "balloon $2M: $(cat "$OUT/$1.balloon")"
}

# Pages go in and out before the time of waiting is over, half a huge page too much
# each time, and are written as soon as they are back; nothing that waited may be
# given up later.
in_and_out() {
	tell "$1" take-deflated 1
	taken=0
	for keep in 251 249 255 247 253 245; do
		ask "$1" "$keep"
		balloon "$1" "$RAM_MIB"
		sleep 0.3
		memory_intact "$1"
		pages=$(sed -n 's/^pages \([0-9]*\).*/\1/p' "$OUT/$1.check")
		taken=$((taken + pages - 16 * 256))
		tell "$1" untake
	done
	[ "$taken" -gt 0 ] || fail "$1: nothing was taken back"
	is "$1: frames used on their way" "$(counter "$1" early-uses)" 0
	is "$1: device broken" "$(balloon_of "$1" .broken)" false
	pass "$1: $taken pages in and out, none of them lost"
}

# Behind the stop of a move nothing waits; hashes agree of what was given up.
moves() {
	balloon "$1" 201
	move "$1" "$2" --verify
	memory_intact "$2"
	balloon "$2" 151
	balloon "$2" "$RAM_MIB"
	memory_intact "$2"
	is "$2: device broken" "$(balloon_of "$2" .broken)" false
	pass "$2: moved with a part of a huge page in the balloon, and intact"
}

# With populate=on all is there again before the guest has touched any of it; the
# option moves with the guest.
populates() {
	note "memory that is asked back is there at once, $2"
	BALLOON=populate=on
	boot "$1" "$2"
	BALLOON=
	! grep -q 'cannot populate memory ahead' "$OUT/$1.log" || {
		skip "this kernel populates nothing ahead"
		end "$1"
		return
	}
	balloon "$1" 64
	balloon "$1" 128
	at_most "resident with 128 MiB to keep" "$(rss "$1")" $((130 * MIB)) 100
	move "$1" "$1-moved"
	balloon "$1-moved" "$RAM_MIB"
	at_least "resident with $RAM_MIB MiB, untouched" "$(rss "$1-moved")" \
		$((112 * MIB))
	at_least "pages of these populated" \
		"$(balloon_of "$1-moved" .populated_pages)" $((126 * 256))
	memory_intact "$1-moved"
	end "$1-moved"
}

anonymous() {
	populates ahead anonymous
	note "transparent huge pages"
	boot thp anonymous
	if [ "$(huge thp)" -lt $((100 * MIB)) ]; then
		skip "this host makes no transparent huge pages"
		end thp
		return
	fi
	balloon thp 65
	wait_for 20 nothing_waits thp || fail "pages wait for ever"
	at_most "resident with 65 MiB to keep" "$(rss thp)" $((65 * MIB)) 105
	at_least "percent of these in huge pages" \
		$(($(huge thp) * 100 / $(rss thp))) 85
	balloon thp "$RAM_MIB"
	tell thp dirty 200 4
	at_least "in huge pages once all was taken back" "$(huge thp)" \
		$((190 * MIB))
	memory_intact thp
	in_and_out thp
	moves thp thp2
	end thp2

	note "a driver that need not tell"
	boot silent anonymous must-tell-host=off
	balloon silent 65
	is "pages that wait" "$(balloon_of silent .held_pages)" 0
	at_most "resident with 65 MiB to keep" "$(rss silent)" \
		$((65 * MIB)) 105
	in_and_out silent
	end silent
}

hugetlb() {
	note "huge pages of the host's pool"
	if ! have_huge_pages $POOL_PAGES; then
		skip "$(free_huge_pages) huge pages are free and $POOL_PAGES are needed"
		return
	fi
	populates pool-ahead hugetlb
	boot pool hugetlb
	balloon pool 65
	at_most "resident with 65 MiB to keep" "$(rss pool)" $((67 * MIB)) 100
	is "pages kept for ever" "$(balloon_of pool .discard_kept)" 0
	balloon pool "$RAM_MIB"
	is "pages that wait" "$(balloon_of pool .held_pages)" 0
	tell pool dirty 200 4
	memory_intact pool
	in_and_out pool
	moves pool pool2
	end pool2
	runs_dry
}

# What was given back is gone from the pool when the guest wants it again: the
# machine fails, and says why.
runs_dry() {
	note "the pool is empty when the guest takes a page back"
	if [ "$pool_before" != 0 ]; then
		skip "the pool of huge pages is not ours to empty"
		return
	fi
	boot dry hugetlb
	balloon dry 64
	# What is reserved for a machine's first touch stays.
	echo 0 >$POOL
	read -r pool_ours <$POOL
	balloon dry "$RAM_MIB"
	poke dry dirty 200 5
	end_of_vm dry 20
	status=$?
	read -r pool_ours <$POOL
	is "status of a machine without a page" "$status" 1
	is "lines about it" "$(wc -l <"$OUT/dry.log")" 1
	grep -q "KVM_RUN: Bad address .*pool of huge pages is empty" \
		"$OUT/dry.log" || fail "dry: $(cat "$OUT/dry.log")"
	pass "$(cat "$OUT/dry.log")"
}

for backing in $BACKINGS; do
	"$backing"
done
