#!/bin/sh
# Variants of a stock Debian guest, and what may happen while one moves.
#
#   linux-guests.sh [6.1|6.12|generic] [CPUS] [PART...]
#
# Parts: alloc0 alloc1 free1 poison (the guest's kernel is booted with that
# option of its allocator), resize pause cancel reboot (what happens while it
# moves); all but poison by default, which the generic kernel alone can. 6.12 is
# $KERNEL612, generic $KERNELGENERIC.
. "${0%/*}/lib.sh"

VERSION=${1:-6.1}
CPUS=${2:-1}
[ $# -le 2 ] || shift 2
case $* in
*[a-z]*) PARTS=$* ;;
*) PARTS="alloc0 alloc1 free1 resize pause cancel reboot" ;;
esac
RAM_MIB=384
MIB=1048576
COMMON="console=ttyS0 loglevel=4 panic=-1"

# boot VM APPEND...: a guest that keeps, has freed and goes on writing.
boot() {
	_vm=$1
	shift
	start_vm "$_vm" --kernel "$stock_kernel" --initrd "$stock_initrd" \
		--memory "${RAM_MIB}M" --cpus "$CPUS" \
		--append "$COMMON $*"
	agent_ready "$_vm.serial" 120 || fail "the guest did not boot ($*)"
	give_work "$_vm"
}

give_work() {
	agent "$1.serial" keep 40 21 >/dev/null || fail "keep"
	agent "$1.serial" writer 8 4 22 >/dev/null || fail "writer"
	agent "$1.serial" dirty 200 23 >/dev/null || fail "dirty"
}

all_intact() {
	memory_intact "$1"
	agent "$1.serial" writer-check >"$OUT/$1.writer-check" ||
		fail "the writer's pages differ: $(cat "$OUT/$1.writer-check")"
}

power_off() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 30 || fail "power-off: status $?"
}

# inhibits VM: 100 MiB of pages and more.
inhibits() {
	[ "$(balloon_of "$1" .inhibited_pages)" -ge $((100 * MIB / 4096)) ]
}

# gives_back VM: it dirtied 200 MiB and freed them, so 300 and more were resident.
# How much of a small guest's free memory lies in blocks large enough to be
# reported is the guest's affair.
gives_back() {
	resident=$(rss "$1") && [ "$resident" -le $((200 * MIB)) ]
}

# given_back VM OPTION: by reporting, of what the guest has freed.
given_back() {
	negotiated "$1" reporting || fail "$2: reporting is not negotiated"
	wait_for 120 gives_back "$1" || fail "$2: resident: $resident:" \
		"$(balloon_of "$1" tojson)"
	pass "$2: $(balloon_of "$1" '"\(.reported_pages) pages reported, " +
		"\(.discarded_pages) given back"')," \
		"resident $((resident / MIB)) MiB"
}

# A guest that poisons what it frees expects to find its poison again: what it
# reports is acknowledged and kept (R11, V14).
kept_poisoned() {
	wait_for 120 inhibits "$1" || fail "$2: no reports:" \
		"$(balloon_of "$1" tojson)"
	[ "$(balloon_of "$1" .discarded_pages)" = 0 ] ||
		fail "$2: poisoned memory was given back:" \
			"$(balloon_of "$1" tojson)"
	pass "$2: poison $(balloon_of "$1" .poison):" \
		"$(balloon_of "$1" .inhibited_pages) pages reported, none" \
		"given back, resident $(($(rss "$1") / MIB)) MiB"
}

# moved_and_off VM NAME: the rest of a variant's life.
moved_and_off() {
	move "$1" "$1b"
	all_intact "$1b"
	[ "$(figure "$1b" .hints_received)" -gt 0 ] || fail "$2: no hints came"
	pass "$2: moved, $(figure "$1b" .hints_received) hints," \
		"$(figure "$1b" .pages_sent) pages sent, memory intact"
	power_off "$1b"
	pass "$2: powered off at the destination"
}

# variant PART OPTION: whether the guest's pages hold something or zeroes when
# it frees or allocates them.
variant() {
	note "$2"
	boot "$1" "$2"
	given_back "$1" "$2"
	moved_and_off "$1" "$2"
}

poison() {
	note "page_poison=1"
	boot poison page_poison=1 init_on_alloc=0
	negotiated poison poison ||
		fail "page_poison=1: this kernel was built without PAGE_POISONING"
	kept_poisoned poison page_poison=1
	moved_and_off poison page_poison=1
}

# The guest of the parts below runs on from one to the next.
event_guest() {
	[ -z "${VM:-}" ] || return 0
	VM=event0
	serial=0
	boot "$VM"
}

# Sets TO, the name of the next process.
next_name() {
	serial=$((serial + 1))
	TO=event$serial
}

# Sees the report of a move that has begun, and says in what state it was:
# "over" when it was too quick for that. (Idle and done may be what an earlier
# move left.) Status 1 when the move is over, too.
see_report() {
	_looks=0
	while [ "$_looks" -lt 5 ]; do
		_looks=$((_looks + 1))
		seen=$(balloon_of "$1" .report_state) || break
		case $seen in
		requested | accepting | complete | closed) return 0 ;;
		esac
	done
	seen=over
	! gone "$MOVER"
}

# slow_move MIB_PER_SECOND: begins a move of $VM to $TO in which something can
# happen; slower ones where that was over before it was seen.
slow_move() {
	_rate=$1
	while :; do
		next_name
		begin_move "$VM" "$TO" --bandwidth "${_rate}M"
		! see_report "$VM" || return 0
		end_move "$VM" "$TO"
		VM=$TO
		_rate=$((_rate / 2))
		[ "$_rate" -ge 1 ] || fail "each move was over too soon"
	done
}

target_reached() {
	[ "$(balloon_of "$1" .actual)" = "$2" ]
}

resize() {
	note "the balloon is resized while the guest reports its free pages"
	target=$((256 * MIB))
	slow_move 12
	"$AEROSTAT" balloon --control "$VM.sock" 256M >"$OUT/resize.out" 2>&1 ||
		fail "the balloon: $(cat "$OUT/resize.out")"
	end_move "$VM" "$TO"
	VM=$TO
	wait_for 60 target_reached "$VM" "$target" ||
		fail "the guest keeps $(balloon_of "$VM" .actual), not $target"
	all_intact "$VM"
	pass "resized to 256 MiB while the report was $seen:" \
		"moved, $(figure "$VM" .hints_received) hints, and the guest" \
		"keeps 256 MiB, intact"
	"$AEROSTAT" balloon --control "$VM.sock" "${RAM_MIB}M" --wait --json \
		>/dev/null || fail "deflate"
	agent "$VM.serial" dirty 200 24 >/dev/null || fail "dirty"
	all_intact "$VM"
	pass "and takes its memory back, intact"
}

pause() {
	note "the guest is paused and resumed while it moves"
	slow_move 6
	"$AEROSTAT" pause --control "$VM.sock" || fail "pause"
	paused=$(state "$VM")
	"$AEROSTAT" resume --control "$VM.sock" || fail "resume"
	sleep 1
	"$AEROSTAT" pause --control "$VM.sock" || fail "second pause"
	sleep 1
	"$AEROSTAT" resume --control "$VM.sock" || fail "second resume"
	end_move "$VM" "$TO"
	VM=$TO
	[ "$(state "$VM")" = running ] || fail "it does not run: $(state "$VM")"
	all_intact "$VM"
	pass "paused (state: $paused) and resumed twice while it moved: runs" \
		"there, intact; $(figure "$VM" .pages_sent) pages sent"
	next_name
	begin_move "$VM" "$TO" --bandwidth 12M
	"$AEROSTAT" pause --control "$VM.sock" || fail "pause"
	end_move "$VM" "$TO"
	VM=$TO
	[ "$(state "$VM")" = paused ] || fail "it is not paused: $(state "$VM")"
	"$AEROSTAT" resume --control "$VM.sock" || fail "resume there"
	all_intact "$VM"
	pass "paused while it moves and left so: arrives paused, resumed intact"
}

cancel() {
	note "two moves, and a cancelled one between"
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact "$VM"
	slow_move 4
	kill -INT "$MOVER"
	wait "$MOVER"
	[ $? = 1 ] || fail "a cancelled move has another status than 1"
	end_of_vm "$TO" 20
	[ $? = 1 ] || fail "the destination did not end with status 1"
	[ "$(state "$VM")" = running ] || fail "the source does not run"
	agent "$VM.serial" dirty 200 25 >/dev/null || fail "dirty"
	all_intact "$VM"
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact "$VM"
	[ "$(figure "$VM" .hints_received)" -gt 0 ] || fail "no hints came"
	pass "moved, cancelled (report: $seen), moved: intact," \
		"$(figure "$VM" .hints_received) hints in the last"
}

# reboot_meanwhile WHEN: a move in which the guest starts anew.
reboot_meanwhile() {
	slow_move 6
	if [ "$1" = pages ]; then
		sleep 2
		seen=$(balloon_of "$VM" .report_state) || seen=over
	fi
	agent "$VM.serial" reboot >/dev/null
	if wait "$MOVER"; then
		end_of_vm "$VM" 20 || fail "$VM did not end with status 0"
		VM=$TO
		ended="moved, $(figure "$VM" .pages_sent) pages sent"
	else
		ended="not moved: $(cat "$OUT/$TO.err")"
		[ "$(state "$VM")" = running ] || fail "the source does not run"
	fi
	: >"$OUT/$VM.console"
	agent_ready "$VM.serial" 120 || fail "the guest did not boot again"
	[ "$(agent "$VM.serial" check | sed -n 's/^pages //p')" = "0 bad 0" ] ||
		fail "the guest was not started anew"
	give_work "$VM"
	all_intact "$VM"
	pass "rebooted while it moved (report: $seen): $ended; boots, intact"
}

reboot() {
	note "the guest reboots while it moves"
	reboot_meanwhile report
	reboot_meanwhile pages
	next_name
	move "$VM" "$TO"
	VM=$TO
	all_intact "$VM"
	pass "and a move after that is a good one"
}

if ! stock_kernel "$VERSION"; then
	skip "stock guest with Linux $VERSION: no such kernel to be had here"
	exit 0
fi
note "Linux $VERSION, CPUs: $CPUS, parts: $PARTS"
for part in $PARTS; do
	case $part in
	alloc0) variant alloc0 init_on_alloc=0 ;;
	alloc1) variant alloc1 init_on_alloc=1 ;;
	free1) variant free1 init_on_free=1 ;;
	poison) poison ;;
	resize | pause | cancel | reboot)
		event_guest
		$part
		;;
	*) fail "no such part: $part" ;;
	esac
done
if [ -n "${VM:-}" ]; then
	power_off "$VM"
	pass "powered off with status 0"
fi
