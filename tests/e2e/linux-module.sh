#!/bin/sh
# A Debian guest whose balloon is driven by our own kernel module (guest/linux),
# which speaks both protocols.
#
#   linux-module.sh [PROTOCOL] [KERNEL] [MOVES] [ranges]
#
# PROTOCOL: command-register (the default) or standard; ranges: memory goes by
# ranges (docs/spec/page-ranges.md), else by page numbers. KERNEL: 6.1, or 6.12,
# which is $KERNEL612; their initramfs with the module in place of the stock one
# is $INITRDMODULE and $INITRDMODULE612. Two guests:
#  - one that does not zero what it allocates: balloon, with several buffers on
#    their way, statistics, moves, freeze and thaw;
#  - one that does, whose driver reports small blocks and so takes seconds:
#    balloon requests during a report, the module unloaded in the middle of one
#    and while it fills the balloon.
. "${0%/*}/lib.sh"

PROTOCOL=${1:-command-register}
VERSION=${2:-6.1}
MOVES=${3:-3}
RANGES=${4:-}
MIB=1048576
MODULE=aerostat_balloon
COMMON="console=ttyS0 loglevel=4 panic=-1"

stock_kernel "$VERSION" || {
	skip "our module on Linux $VERSION: no such kernel to be had here"
	exit 0
}
case $VERSION in
6.1) initrd=${INITRDMODULE:-} ;;
6.12) initrd=${INITRDMODULE612:-} ;;
*) initrd= ;;
esac
[ -n "$initrd" ] || {
	skip "our module on Linux $VERSION: no headers of this kernel" \
		"(scripts/setup.sh fetches them)"
	exit 0
}

# boot VM RAM_MIB CPUS [APPEND...]: a guest that keeps, has freed and goes on
# writing.
boot() {
	VM=$1
	RAM_MIB=$2
	cpus=$3
	shift 3
	start_vm "$VM" --kernel "$stock_kernel" --initrd "$initrd" \
		--memory "${RAM_MIB}M" --cpus "$cpus" \
		--balloon "protocol=$PROTOCOL,page-ranges=$([ "$RANGES" ] && echo on || echo off)" --append "$COMMON $*"
	agent_ready "$VM.serial" 120 || fail "the guest did not boot ($*)"
	tell "$VM" keep 40 71
	tell "$VM" writer 8 4 72
	tell "$VM" dirty 200 73
	serial=0
	speaks "$VM"
	pass "Linux $VERSION, CPUs: $cpus${*:+, $*}: $MODULE drives the" \
		"balloon, protocol $PROTOCOL"
}

# speaks VM: our driver, and the protocol that was asked for.
speaks() {
	tell "$1" devices
	grep -q "device 0x0005 driver $MODULE " "$OUT/$1.reply" ||
		fail "another driver: $(cat "$OUT/$1.reply")"
	[ "$(balloon_of "$1" .protocol)" = "$PROTOCOL" ] ||
		fail "the protocol is $(balloon_of "$1" .protocol)"
	for _feature in must-tell-host stats deflate-on-oom hinting reporting; do
		negotiated "$1" "$_feature" || fail "$_feature is not negotiated"
	done
	negotiated "$1" page-ranges && _ranges=ranges || _ranges=
	[ "$_ranges" = "$RANGES" ] || fail "page-ranges: ${_ranges:-no}"
}

# Sets TO, the name of the next process.
next_name() {
	serial=$((serial + 1))
	TO=${VM%%-*}-$serial
}

all_intact() {
	memory_intact "$VM"
	writer_intact "$VM"
}

no_complaint() {
	agent "$VM.serial" dmesg-bad >"$OUT/$VM.dmesg" ||
		fail "the guest's kernel complains:" \
			"$(grep -m 1 -E 'WARNING|BUG|Trace' "$OUT/$VM.dmesg")"
}

power_off() {
	no_complaint
	tell "$VM" poweroff
	end_of_vm "$VM" 30 || fail "power-off: status $?"
	pass "nothing in the guest's log to complain of; powered off"
}

target_reached() {
	[ "$(balloon_of "$VM" .actual)" = $(($1 * MIB)) ]
}

# keeps MIB: the guest gets there, and its driver has said so.
keeps() {
	wait_for 60 target_reached "$1" ||
		fail "the guest keeps $(($(balloon_of "$VM" .actual) / MIB))" \
			"MiB, not $1"
}

# request MIB: without waiting.
request() {
	"$AEROSTAT" balloon --control "$VM.sock" "$1M" >"$OUT/request.out" 2>&1
}

# driver_count KEY: of the module's counters.
driver_count() {
	agent "$VM.serial" driver-counters | sed -n "s/^$1 //p"
}

say_counters() {
	note "$(agent "$VM.serial" driver-counters | tr '\n' ',' |
		sed -e 's/,$//' -e 's/,/, /g')"
}

# ------------------------------------------------------------ balloon ---

balloon() {
	tell "$VM" dirty 200 74
	batches=$(driver_count batches)
	buffers=$(driver_count buffers)
	before=$(rss "$VM")
	request 192 || fail "balloon: $(cat "$OUT/request.out")"
	keeps 192
	after=$(rss "$VM")
	all_intact
	at_most "resident once the guest keeps 192 MiB" "$after" \
		$((192 * MIB)) 100
	request "$RAM_MIB" || fail "balloon: $(cat "$OUT/request.out")"
	keeps "$RAM_MIB"
	tell "$VM" dirty 200 75
	all_intact
	pass "inflated: resident $((before / MIB)), then $((after / MIB)) MiB;" \
		"deflated, all of it used again, intact"
	several_on_their_way
}

# Of 8 buffers that may be out the device is told by the half, and once more of
# what is left. A buffer is of 1 MiB, and of at most 64 by ranges.
several_on_their_way() {
	batches=$(($(driver_count batches) - batches))
	buffers=$(($(driver_count buffers) - buffers))
	inflating=$(driver_count most_inflating)
	deflating=$(driver_count most_deflating)
	[ "$RANGES" ] && expected=$(((RAM_MIB - 192) / 64)) || expected=8
	at_least "buffers on their way to inflate" "$inflating" "$expected"
	at_least "buffers on their way to deflate" "$deflating" "$expected"
	at_most "notifications for $buffers buffers" "$batches" "$buffers" 60
}

statistics() {
	[ "$VERSION" = 6.1 ] && tags=10 || tags=16
	"$AEROSTAT" stats --control "$VM.sock" --json >"$OUT/stats.json" ||
		fail "aerostat stats: $(cat "$OUT/stats.json")"
	sent=$(jq 'del(.updates, .age_ms) | length' "$OUT/stats.json")
	[ "$sent" = "$tags" ] || fail "$sent statistics: $(cat "$OUT/stats.json")"
	total=$(agent "$VM.serial" meminfo | sed -n 's/^MemTotal //p')
	[ "$(jq .total "$OUT/stats.json")" = $((total * 1024)) ] ||
		fail "of $total kB: $(cat "$OUT/stats.json")"
	pass "$sent statistics, total $total kB as the guest says"
}

# reload [PARAMETER,PARAMETER...]
reload() {
	tell "$VM" rmmod "$MODULE"
	no_driver || fail "the driver is still there: $(cat "$OUT/$VM.reply")"
	tell "$VM" insmod "$MODULE" "${1:--}"
	speaks "$VM"
}

no_driver() {
	tell "$VM" devices
	grep -q "device 0x0005 driver none" "$OUT/$VM.reply"
}

# -------------------------------------------------------------- moves ---

one_move() {
	tell "$VM" dirty 150 $((80 + $1))
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact
	no_complaint
	hints=$(figure "$VM" .hints_received)
	hinted=$(figure "$VM" .pages_hinted)
	[ "$hints" -gt 0 ] || fail "no hints came"
	[ "$(balloon_of "$VM" .protocol)" = "$PROTOCOL" ] ||
		fail "another protocol at the destination"
	pass "move $1: $hints hints, $hinted pages left out," \
		"$(figure "$VM" .pages_sent) sent, report" \
		"$(figure "$VM" .report_ms) ms; intact"
}

moves() {
	reports=$(driver_count reports)
	for number in $(seq "$MOVES"); do
		one_move "$number"
	done
	[ "$(driver_count reports)" -ge $((reports + MOVES)) ] ||
		fail "$(driver_count reports) reports"
	wait_for 20 released || fail "reports: $(driver_count reports)," \
		"signs: $(driver_count signs), releases: $(driver_count releases)"
	pass "each report had one sign, and its blocks came back"
	say_counters
}

released() {
	[ "$(driver_count signs)" = "$(driver_count reports)" ] &&
		[ "$(driver_count releases)" = "$(driver_count reports)" ]
}

# Blocks that are needed again while their hints are under way or counted: what
# is written to them must arrive.
pressure() {
	note "memory runs short while free pages are with the host"
	tell "$VM" dirty 150 78
	taken=$(driver_count taken_back)
	next_name
	begin_move "$VM" "$TO" --bandwidth 24M
	wait_for 20 hints_come || fail "no hints"
	poke "$VM" keep 150 79
	end_move "$VM" "$TO"
	VM=$TO
	all_intact
	taken=$(($(driver_count taken_back) - taken))
	[ "$taken" -gt 0 ] || fail "no block was taken back"
	pass "$taken blocks taken back and written of" \
		"$(figure "$VM" .hints_received) hinted," \
		"$(figure "$VM" .pages_hinted) pages left out; moved, intact"
}

hints_come() {
	[ "$(balloon_of "$VM" .report.hints)" -gt 20 ]
}

# ----------------------------------------------- during a report ---

# Waits until the report of a move that has begun accepts pages.
see_report() {
	_looks=0
	until seen=$(balloon_of "$VM" .report_state) &&
		[ "$seen" = accepting ]; do
		_looks=$((_looks + 1))
		[ "$_looks" -lt 50 ] || fail "the report is $seen"
	done
}

# The time that a request takes here comes on top of the 50 ms.
requests() {
	note "balloon requests during a report, every 50 ms"
	next_name
	begin_move "$VM" "$TO"
	see_report
	asked=0
	while [ "$asked" -lt 20 ] && request $((250 + asked % 8 * 10)); do
		target=$((250 + asked % 8 * 10))
		asked=$((asked + 1))
		sleep 0.05
	done
	seen=$(balloon_of "$VM" .report_state)
	end_move "$VM" "$TO"
	VM=$TO
	# Fewer only where the move was over before.
	[ "$asked" -gt 0 ] || fail "balloon: $(cat "$OUT/request.out")"
	keeps "$target"
	all_intact
	pass "$asked requests, then the report was ${seen:-over}; the last," \
		"$target MiB, is what the guest keeps;" \
		"$(figure "$VM" .hints_received) hints, moved, intact"
	say_counters
	full=$(driver_count full)
	[ "$full" -gt 0 ] || fail "the ring was never full"
	pass "the ring was full $full times, which held nothing up"
	request "$RAM_MIB" || fail "balloon: $(cat "$OUT/request.out")"
	keeps "$RAM_MIB"
}

unload() {
	note "the module is unloaded in the middle of a report"
	free=$(agent "$VM.serial" meminfo | sed -n 's/^MemFree //p')
	next_name
	begin_move "$VM" "$TO"
	see_report
	poke "$VM" rmmod "$MODULE"
	end_move "$VM" "$TO"
	VM=$TO
	no_driver || fail "the driver is still there: $(cat "$OUT/$VM.reply")"
	all_intact
	left=$(agent "$VM.serial" meminfo | sed -n 's/^MemFree //p')
	at_least "free, in kB, once it is gone" "$left" $((free - 16384))
	pass "unloaded (report: $seen," \
		"$(figure "$VM" .hints_received) hints had come), moved, intact"
	tell "$VM" insmod "$MODULE" hint_min_order=6
	speaks "$VM"
	balloon
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact
	[ "$(figure "$VM" .hints_received)" -gt 0 ] || fail "no hints came"
	pass "loaded again, blocks from 256 KiB on:" \
		"$(figure "$VM" .hints_received) hints, moved, intact"
}

# Between two targets, the second before the first is reached; the guest writes
# all the while.
up_and_down() {
	given=$(driver_count inflated)
	for size in 200 480 240 430 192 "$RAM_MIB" 220 "$RAM_MIB"; do
		request "$size" || fail "balloon: $(cat "$OUT/request.out")"
		[ "$size" = 480 ] || sleep 0.1
	done
	keeps "$RAM_MIB"
	tell "$VM" dirty 200 76
	all_intact
	no_complaint
	given=$(($(driver_count inflated) - given))
	pass "up and down: $((given / 256)) MiB given and taken back, intact"
}

# Whatever is on its way when the driver goes comes back all the same.
unload_filling() {
	note "the module is unloaded while the balloon is filled"
	kept=
	for pause in 0 0.1 0.2; do
		free=$(agent "$VM.serial" meminfo | sed -n 's/^MemFree //p')
		request 192 || fail "balloon: $(cat "$OUT/request.out")"
		sleep "$pause"
		kept="$kept $(($(balloon_of "$VM" .actual) / MIB))"
		poke "$VM" rmmod "$MODULE"
		no_driver || fail "the driver is still there"
		left=$(agent "$VM.serial" meminfo | sed -n 's/^MemFree //p')
		at_least "free, in kB, once it is gone" "$left" $((free - 16384))
		request "$RAM_MIB" || fail "balloon: $(cat "$OUT/request.out")"
		tell "$VM" insmod "$MODULE" -
		speaks "$VM"
		all_intact
	done
	no_complaint
	tell "$VM" dirty 150 77
	all_intact
	pass "unloaded when the guest had come down to$kept MiB, intact"
}

# ----------------------------------------------------- freeze and thaw ---

# Hibernation that ends for want of a swap, after all devices were frozen and
# thawed. Before that it wants half of the memory free.
sleeps() {
	note "freeze and thaw"
	request $((RAM_MIB - 20)) || fail "balloon: $(cat "$OUT/request.out")"
	keeps $((RAM_MIB - 20))
	given=$(driver_count inflated)
	tell "$VM" hibernate
	hibernated=$(cat "$OUT/$VM.reply")
	speaks "$VM"
	keeps $((RAM_MIB - 20))
	given=$(($(driver_count inflated) - given))
	[ "$given" = $((20 * MIB / 4096)) ] ||
		fail "hibernate: $hibernated; $given pages inflated anew"
	all_intact
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact
	[ "$(figure "$VM" .hints_received)" -gt 0 ] || fail "no hints came"
	pass "frozen and thawed ($hibernated), the balloon filled anew," \
		"moved with $(figure "$VM" .hints_received) hints"
}

boot plain 512 1 init_on_alloc=0
balloon
up_and_down
statistics
sleeps
moves
pressure
power_off
boot zeroing 384 2
reload hint_max_order=2,hints_per_kick=1000,kick_ms=5000
requests
unload
unload_filling
power_off
