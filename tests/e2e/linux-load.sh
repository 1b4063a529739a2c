#!/bin/sh
# A Debian guest under a load that verifies itself (stress-ng: it allocates,
# writes, reads back, frees) moves again and again, and is asked for another
# balloon every 50 ms meanwhile, reports included.
#
#   linux-load.sh DRIVER PROTOCOL KERNEL [MOVES [zeroing]]
#
# DRIVER: module (ours, guest/linux; it reports small blocks here, so that a
# report takes a while) or stock. zeroing: what the guest allocates, as Debian's
# kernels do; then a stock driver's report takes a while, too, and what it hints
# is written to. Without it, hints leave pages out. KERNEL: 6.1, or 6.12, which is
# $KERNEL612. The driver's images are $INITRDSTRESSMODULE, $INITRDSTRESSSTOCK, and
# for 6.12 $INITRDSTRESSMODULE612, $INITRDSTRESSSTOCK612.
. "${0%/*}/lib.sh"

DRIVER=${1:-module}
PROTOCOL=${2:-command-register}
VERSION=${3:-6.1}
MOVES=${4:-10}
[ "${5:-}" = zeroing ] && zeroing=1 || zeroing=0
RAM_MIB=512
MIB=1048576
LEAST_MIB=440	# asked for: one of 8 targets from here, 8 MiB apart
STRESS=--vm,2,--vm-bytes,40M,--vm-populate,--verify,--oomable,--metrics-brief

stock_kernel "$VERSION" || {
	skip "load on Linux $VERSION: no such kernel to be had here"
	exit 0
}
case $DRIVER-$VERSION in
stock-6.1) initrd=${INITRDSTRESSSTOCK:-} ;;
stock-6.12) initrd=${INITRDSTRESSSTOCK612:-} ;;
module-6.1) initrd=${INITRDSTRESSMODULE:-} ;;
module-6.12) initrd=${INITRDSTRESSMODULE612:-} ;;
*) fail "no such driver or kernel: $DRIVER, $VERSION" ;;
esac
[ -n "$initrd" ] || {
	skip "load on Linux $VERSION: no headers of this kernel" \
		"(scripts/setup.sh fetches them)"
	exit 0
}

# -------------------------------------------------------- balloon requests ---

# Runs beside a move: one request every 50 ms on one connection, and each time
# the question how far the report is. Request N asks for target N % 8.
ask_for_ever() {
	echo '{"execute":"qmp_capabilities"}'
	_number=0
	while [ ! -e stop-asking ]; do
		_number=$((_number + 1))
		printf '{"execute":"balloon","arguments":{"value":%d},"id":%d}\n' \
			$(((LEAST_MIB + _number % 8 * 8) * MIB)) "$_number"
		printf '{"execute":"x-query-status","id":"status"}\n'
		sleep 0.05
	done
}

begin_requests() {
	rm -f stop-asking
	answers=$OUT/requests.$1
	ask_for_ever | socat -t 2 - "UNIX-CONNECT:$1.sock" >"$answers" 2>/dev/null &
	ASKER=$!
}

# Sets asked, refused, reporting (taken while a report was under way) and target
# (of the last one that was taken, MiB).
end_requests() {
	touch stop-asking
	wait "$ASKER" || :
	# A machine that is gone may have left half a line.
	sed -n '/}$/p' "$answers" | grep -v '"event"' >"$answers.whole" || :
	asked=$(grep -c '"return": *{}, *"id": *[0-9]\|"id": *[0-9]*, *"return": *{}' \
		"$answers.whole")
	refused=$(grep -c '"error"' "$answers.whole")
	reporting=$(grep -c '"report_state": *"\(requested\|accepting\)"' \
		"$answers.whole")
	last=$(jq -r 'select(.return == {} and (.id | type) == "number") | .id' \
		"$answers.whole" | tail -n 1)
	target=$((LEAST_MIB + ${last:-0} % 8 * 8))
}

target_reached() {
	[ "$(balloon_of "$VM" .actual)" = $((target * MIB)) ]
}

# ------------------------------------------------------------------- moves ---

no_complaint() {
	agent "$VM.serial" dmesg-bad >"$OUT/$VM.dmesg" ||
		fail "the guest's kernel complains:" \
			"$(grep -m 1 -E 'WARNING|BUG|Trace' "$OUT/$VM.dmesg")"
}

one_move() {
	TO=load-$1
	tell "$VM" dirty 60 $((80 + $1))
	begin_requests "$VM"
	begin_move "$VM" "$TO" --bandwidth 128M --downtime 1000
	end_move "$VM" "$TO"
	end_requests
	VM=$TO
	[ -n "$last" ] || fail "no request was taken: $(tail -n 1 "$answers.whole")"
	wait_for 60 target_reached ||
		fail "the last request that was taken wants $target MiB," \
			"the guest keeps $(($(balloon_of "$VM" .actual) / MIB))"
	memory_intact "$VM"
	writer_intact "$VM"
	no_complaint
	hints=$(figure "$VM" .hints_received)
	[ "$hints" -gt 0 ] || fail "no hints came"
	hinted=$((hinted + $(figure "$VM" .pages_hinted)))
	[ "$(balloon_of "$VM" .protocol)" = "$PROTOCOL" ] ||
		fail "another protocol at the destination"
	all_asked=$((all_asked + asked))
	all_reporting=$((all_reporting + reporting))
	pass "move $1: $hints hints, $(figure "$VM" .pages_hinted) pages left" \
		"out, $(figure "$VM" .pages_sent) sent; $asked requests taken," \
		"$reporting of them while it reported, $refused refused;" \
		"$target MiB as asked last; intact"
}

# Without free page reporting, which would leave little to hint.
VM=load-0
start_vm "$VM" --kernel "$stock_kernel" --initrd "$initrd" \
	--memory "${RAM_MIB}M" --cpus 2 --balloon "protocol=$PROTOCOL,reporting=off" \
	--append "console=ttyS0 loglevel=4 panic=-1 init_on_alloc=$zeroing"
agent_ready "$VM.serial" 180 || fail "the guest did not boot"
tell "$VM" keep 40 71
tell "$VM" writer 8 4 72
tell "$VM" devices
case $DRIVER in
module)
	grep -q "device 0x0005 driver aerostat_balloon " "$OUT/$VM.reply" &&
		tell "$VM" rmmod aerostat_balloon &&
		tell "$VM" insmod aerostat_balloon hint_max_order=2
	;;
stock) grep -q "device 0x0005 driver virtio_balloon " "$OUT/$VM.reply" ;;
esac || fail "another driver: $(cat "$OUT/$VM.reply")"
tell "$VM" stress "$STRESS"
pass "Linux $VERSION under stress-ng, driver: $DRIVER, protocol: $PROTOCOL"

all_asked=0
all_reporting=0
hinted=0
for number in $(seq "$MOVES"); do
	one_move "$number"
done
tell "$VM" stress-end
grep -q 'successful run completed' "$OUT/$VM.reply" ||
	fail "stress-ng: $(cat "$OUT/$VM.reply")"
note "$(sed -n 's/.*\] vm  */bogo operations, seconds, ...: /p' "$OUT/$VM.reply")"
[ "$zeroing" = 1 ] || [ "$hinted" -gt 0 ] || fail "no page was left out"
[ "$all_reporting" -gt 0 ] || fail "no request came while a report was under way"
pass "stress-ng verified what it wrote through $MOVES moves; $all_asked" \
	"requests, $all_reporting while a report was under way, all honoured"
no_complaint
tell "$VM" poweroff
end_of_vm "$VM" 30 || fail "power-off: status $?"
pass "nothing in the guest's log to complain of; powered off"
