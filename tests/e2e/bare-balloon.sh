#!/bin/sh
# The balloon as a driver that keeps to the letter sees it, and one that does
# not keep to it at all.
#
#   bare-balloon.sh [PART...]
#
# Parts: choices (what a driver may refuse, and both numberings of the queues),
# frames (inflate, deflate, with MUST_TELL_HOST and without), statistics,
# reporting, poison, rogue; all of them by default.
. "${0%/*}/lib.sh"

PARTS=${*:-choices frames statistics reporting poison rogue}
MIB=1048576
RAM_MIB=256
BALLOON=protocol=standard

[ -n "${BARE:-}" ] || fail "no bare guest"

# boot VM [WORD...]: a guest with these words on its command line, and a balloon
# with $BALLOON.
boot() {
	_vm=$1
	shift
	start_vm "$_vm" --kernel "$BARE" --memory "${RAM_MIB}M" --append "$*" \
		--balloon "$BALLOON"
	agent_ready "$_vm.serial" 60 || fail "the bare guest does not answer"
}

end() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 20 || fail "power-off: status $?"
}

# balloon VM MIB: what the guest may keep; waits until it does.
balloon() {
	"$AEROSTAT" balloon --control "$1.sock" "$2M" --wait >"$OUT/$1.balloon" \
		2>&1 || fail "balloon $2M: $(cat "$OUT/$1.balloon")"
}

in_use() {
	_kb=$(mem_in_use "$1.serial" $((RAM_MIB * 1024))) || fail "no meminfo"
	echo $((_kb * 1024))
}

# ------------------------------------------------------------ choices ---

# choice HINTS REPORTS STATISTICS PROTOCOL [WORD...]: boots with these words and
# the balloon's options $BALLOON; each is yes or no, or maybe.
choice() {
	_hints=$1 _reports=$2 _stats=$3 _protocol=$4
	shift 4
	choices=$((choices + 1))
	vm=choice$choices
	boot "${vm}a" "$@"
	is "protocol with $BALLOON $*" "$(balloon_of "${vm}a" .protocol)" \
		"$_protocol"
	tell "${vm}a" keep 16 "$choices"
	tell "${vm}a" dirty 160 "$choices"
	is "$*: reports" "$(agent "${vm}a.serial" report-now >/dev/null &&
		echo yes || echo no)" "$_reports"
	is "$*: statistics" "$("$AEROSTAT" stats --control "${vm}a.sock" \
		--json >/dev/null 2>&1 && echo yes || echo no)" "$_stats"
	balloon "${vm}a" 200
	move "${vm}a" "${vm}b"
	_hinted=$(figure "${vm}b" .hints_received)
	[ "$_hints" = maybe ] || is "$*: hints" \
		"$([ "$_hinted" -gt 0 ] && echo yes || echo no)" "$_hints"
	balloon "${vm}b" "$RAM_MIB"
	memory_intact "${vm}b"
	is "device broken" "$(balloon_of "${vm}b" .broken)" false
	end "${vm}b"
}

choices() {
	note "choices"
	choices=0
	choice yes yes yes standard must-tell-host=off
	choice no yes yes standard hinting=off
	choice yes no yes standard reporting=off
	choice yes yes no standard stats=off
	choice no no no standard hinting=off reporting=off stats=off \
		must-tell-host=off
	# Gaps among the queues, seen the same way by both.
	BALLOON=numbering=spec,stats=off
	choice yes yes no standard numbering=spec
	BALLOON=numbering=spec
	choice no yes no standard numbering=spec hinting=off stats=off
	BALLOON=protocol=command-register
	choice yes yes yes command-register
	choice yes yes yes standard protocol=standard
	choice no yes yes standard hinting=off
	BALLOON=protocol=command-register,numbering=spec,stats=off
	choice yes yes no command-register numbering=spec
	BALLOON=protocol=v17
	choice maybe yes yes v17 # STOP may overtake all of a report
	choice yes yes yes standard protocol=standard
	choice no yes yes standard hinting=off
	BALLOON=page-ranges=on
	choice yes yes yes standard
	choice yes yes yes standard page-ranges=off
	BALLOON=page-ranges=on,protocol=command-register
	choice yes yes yes command-register
	BALLOON=protocol=standard
	pass "$choices choices of features, numberings and protocols, each moved"
}

# ------------------------------------------------------------- frames ---

# frames MUST_TELL_HOST [ranges|"" [BUFFERS]]: on or off; so many on the way
# listen VM: keeps the events it raises.
listen() {
	{
		echo '{"execute":"qmp_capabilities"}'
		sleep 60
	} | socat - "UNIX-CONNECT:$1.sock" >"$OUT/$1.events" &
	wait_for 10 grep -q '"return"' "$OUT/$1.events" ||
		fail "the control socket does not answer"
}

# told VM BYTES: has an event said that the guest keeps so much?
told() {
	jq -r 'select(.event == "BALLOON_CHANGE").data.actual' \
		"$OUT/$1.events" | tail -n 1 | grep -qx "$2"
}

# events_apart VM: a guest writes `actual` for each MiB, and one event a second
# says so; and one that a target is reached.
events_apart() {
	wait_for 10 told "$1" $((RAM_MIB * MIB)) ||
		fail "no event says that the guest has all its memory"
	jq -es --argjson kept $((64 * MIB)) --argjson all $((RAM_MIB * MIB)) '
		[.[] | select(.event == "BALLOON_CHANGE")] |
		(map(.data.actual) | index($kept) and index($all)) and
		(map(select(.data.actual != $kept and .data.actual != $all)
			.timestamp | .seconds + .microseconds / 1e6) |
		[.[1:], .[:-1]] | transpose | all(.[0] - .[1] > 0.9))' \
		"$OUT/$1.events" >/dev/null ||
		fail "events are not a second apart: $(grep BALLOON_CHANGE \
			"$OUT/$1.events")"
	pass "$(grep -c BALLOON_CHANGE "$OUT/$1.events") events tell of it"
}

frames() {
	what="must-tell-host=$1${2:+, by ranges}${3:+, $3 buffers on the way}"
	note "inflate and deflate, $what"
	vm=frames-$1$2${3:-}
	boot "$vm" "must-tell-host=$1"
	negotiated "$vm" page-ranges && is_on=ranges || is_on=
	is "page-ranges negotiated" "$is_on" "${2:-}"
	negotiated "$vm" must-tell-host && is_on=on || is_on=off
	is "must-tell-host negotiated" "$is_on" "$1"
	tell "$vm" buffers "${3:-1}"
	tell "$vm" keep 16 1
	tell "$vm" dirty 220 2
	at_least "resident once 236 MiB were written" "$(rss "$vm")" \
		$((236 * MIB))
	before=$(balloon_of "$vm" .kicks)
	[ "${3:-}" ] || listen "$vm"
	balloon "$vm" 64
	kicks=$(($(balloon_of "$vm" .kicks) - before))
	at_most "resident with 64 MiB to keep" "$(rss "$vm")" $((64 * MIB)) 105
	is "pages inflated" "$(counter "$vm" balloon_inflate)" $((192 * 256))
	# From here on each page is written as early as is allowed: without
	# MUST_TELL_HOST before the device has seen that it is back.
	tell "$vm" take-deflated 1
	balloon "$vm" "$RAM_MIB"
	at_least "resident once all was deflated and written" "$(rss "$vm")" \
		$((208 * MIB))
	memory_intact "$vm"
	[ "${3:-}" ] || events_apart "$vm"
	is "frames used on their way" "$(counter "$vm" early-uses)" 0
	# 1 MiB a buffer by numbers; by ranges 64 blocks of 4 MiB at most. With
	# several on the way the device may be looking already.
	[ "${3:-}" ] || is "kicks to give 192 MiB" "$([ "$kicks" -lt 12 ] && echo few ||
		echo many)" "$([ "${2:-}" ] && echo few || echo many)"
	pass "$what, $kicks kicks to give 192 MiB: $(sed -n 's/^pages //p' "$OUT/$vm.check") of pages kept and written at the earliest moment"
	end "$vm"
}

# --------------------------------------------------------- statistics ---

stat_of() {
	jq -r "$2" "$OUT/$1.stats"
}

statistics() {
	note "statistics"
	boot stats
	tell stats keep 40 3
	# Their order is another one each time, with unknown tags among them.
	for question in 1 2 3 4 5 6 7; do
		"$AEROSTAT" stats --control stats.sock --json \
			>"$OUT/stats.stats" || fail "stats"
		is "statistics named" "$(stat_of stats 'del(.updates, .age_ms) | length')" 16
		is "fixed ones" "$(stat_of stats '[.swap_in, .swap_out, .major_faults, .minor_faults, .disk_caches, .hugetlb_allocations, .hugetlb_failures, .oom_kills, .alloc_stalls, .async_scans, .direct_scans, .async_reclaims, .direct_reclaims] | tostring' |
			tr -d '[] \\')" \
			11000,11001,11002,11003,11007,11008,11009,11010,11011,11012,11013,11014,11015
	done
	tell stats meminfo
	free=$(sed -n 's/^MemFree //p' "$OUT/stats.reply")
	total=$(sed -n 's/^MemTotal //p' "$OUT/stats.reply")
	is "free" "$(stat_of stats .free)" $((free * 1024))
	is "total" "$(stat_of stats .total)" $((total * 1024))
	is "available" "$(stat_of stats .available)" $((free * 1024))
	pass "16 statistics, 7 times in another order: free $free kB of $total kB"
	end stats
}

# ---------------------------------------------------------- reporting ---

reporting() {
	note "free page reporting"
	boot report0
	tell report0 keep 40 4
	tell report0 dirty 200 5
	before=$(rss report0)
	tell report0 report-now
	used=$(in_use report0)
	note "resident $before before, in use $used"
	at_most "resident once what is free was reported" "$(rss report0)" \
		"$used" 115
	memory_intact report0
	move report0 report1 --no-hinting --verify
	at_most "bytes sent without hints, after that" \
		"$(figure report1 .bytes_sent)" "$used" 110
	at_most "resident there" "$(rss report1)" "$used" 115
	memory_intact report1
	tell report1 keep 180 6
	memory_intact report1
	pass "reported pages taken back at the destination: $(head -n 1 "$OUT/report1.check")"

	note "reporting in the middle of a move"
	tell report1 dirty 20 7
	begin_move report1 report2 --no-hinting --bandwidth 50M
	wait_for 20 under_way report1 5000 || fail "the move does not move"
	poke report1 report-now
	poke report1 keep 12 8
	end_move report1 report2
	memory_intact report2
	tell report2 keep 8 9
	memory_intact report2
	pass "reported and taken back while they move: $(head -n 1 "$OUT/report2.check")"
	end report2
}

# ------------------------------------------------------------- poison ---

# Free blocks are filled with the poison and reported; whenever one is used
# again each of its pages must still be full of it.
poison_kept() {
	before=$(counter "$1" poison-checked)
	tell "$1" dirty "$2" 10
	after=$(counter "$1" poison-checked)
	is "pages with another poison" "$(counter "$1" poison-bad)" 0
	[ "$after" -gt "$before" ] || fail "no reported page was taken back"
	pass "$3: $((after - before)) pages taken back hold their poison"
}

poison() {
	note "poison that is not 0: nothing is discarded"
	boot poison0 poison=0xaabbccdd
	negotiated poison0 poison || fail "poison is not negotiated"
	tell poison0 keep 16 11
	tell poison0 dirty 220 12
	before=$(balloon_of poison0 .discarded_pages)
	tell poison0 report-now
	reported=$(counter poison0 reported-pages)
	is "discarded" "$(balloon_of poison0 .discarded_pages)" "$before"
	is "inhibited" "$(balloon_of poison0 .inhibited_pages)" "$reported"
	pass "$reported pages reported, none discarded"
	poison_kept poison0 220 "poison aabbccdd"
	tell poison0 report-now
	move poison0 poison1 --no-hinting --verify
	poison_kept poison1 220 "poison aabbccdd after a move"
	tell poison1 report-now
	begin_move poison1 poison2 --no-hinting --bandwidth 60M
	wait_for 20 under_way poison1 5000 || fail "the move does not move"
	poke poison1 dirty 100 13
	poke poison1 report-now
	end_move poison1 poison2
	poison_kept poison2 220 "poison aabbccdd, reported in the middle of a move"
	memory_intact poison2
	end poison2

	note "poison 0: discarded pages hold it"
	boot zero0 poison=0
	tell zero0 keep 40 14
	tell zero0 dirty 200 15
	tell zero0 report-now
	at_most "resident with poison 0" "$(rss zero0)" "$(in_use zero0)" 115
	poison_kept zero0 200 "poison 0"
	# The destination has an older version of them by then (R26).
	begin_move zero0 zero1 --no-hinting --bandwidth 50M
	wait_for 20 under_way zero0 16000 || fail "the move does not move"
	poke zero0 report-now
	end_move zero0 zero1
	# The guest answers when it has reported; it may have come without.
	used=$(in_use zero1)
	at_most "resident there" "$(rss zero1)" "$used" 115
	poison_kept zero1 200 "poison 0, reported behind the sender's back"
	memory_intact zero1
	end zero1
}

# -------------------------------------------------------------- rogue ---

ROGUES="1 2 3 4 5 6 7 8"

# All is as it should be, and the balloon works.
works() {
	is "state" "$(state "$1")" running
	is "device broken" "$(balloon_of "$1" .broken)" false
	memory_intact "$1"
	balloon "$1" 200
	balloon "$1" "$RAM_MIB"
	tell "$1" report-now
	"$AEROSTAT" stats --control "$1.sock" --json >"$OUT/$1.stats" ||
		fail "$1: no statistics"
}

# rogue PROTOCOL
rogue() {
	note "a driver that misbehaves, protocol $1"
	start_vm "rogue0-$1" --kernel "$BARE" --memory "${RAM_MIB}M" \
		--balloon "protocol=$1"
	agent_ready "rogue0-$1.serial" 60 || fail "the bare guest does not answer"
	tell "rogue0-$1" keep 32 16
	tell "rogue0-$1" dirty 180 17
	for kind in $ROGUES; do
		# Something has to be pending for the last one.
		[ "$kind" != 8 ] || {
			sleep 0.3
			"$AEROSTAT" balloon --control "rogue0-$1.sock" 240M
		} >"$OUT/rogue0-$1.balloon" 2>&1 &
		tell "rogue0-$1" rogue "$kind"
		wait $!
		[ "$kind" != 8 ] || sed 's/^/   /' "$OUT/rogue0-$1.reply"
		works "rogue0-$1"
	done
	pass "protocol $1: kinds $ROGUES one by one, and the balloon works after each: $(balloon_of "rogue0-$1" '"\(.bad_frames) frames that are no RAM, \(.malformed_buffers) malformed buffers"')"
	begin_move "rogue0-$1" "rogue1-$1" --bandwidth 12M
	wait_for 20 under_way "rogue0-$1" 100 || fail "the move does not move"
	for kind in $ROGUES; do
		poke "rogue0-$1" rogue "$kind"
	done
	end_move "rogue0-$1" "rogue1-$1"
	works "rogue1-$1"
	is "times misbehaved" "$(counter "rogue1-$1" rogue)" 16
	move "rogue1-$1" "rogue2-$1" --verify
	works "rogue2-$1"
	pass "protocol $1: the same during a move, then moved on, $(head -n 1 "$OUT/rogue2-$1.check")"
	end "rogue2-$1"
}

for part in $PARTS; do
	case $part in
	frames)
		frames on
		frames off
		frames on "" 16
		frames off "" 16
		BALLOON=page-ranges=on
		frames on ranges
		frames off ranges
		frames on ranges 4
		BALLOON=protocol=standard
		;;
	rogue)
		rogue standard
		rogue command-register
		;;
	*) "$part" ;;
	esac
done
