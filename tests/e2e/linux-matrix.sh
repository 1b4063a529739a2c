#!/bin/sh
# Cells of the matrix with a stock Debian guest: each is booted, given memory to
# keep, to free and to write, moved with its hashes compared, and checked.
#
#   linux-matrix.sh KERNEL:CPUS:BACKING:FEATURES...
#
# KERNEL: 6.1, or 6.12 ($KERNEL612). CPUS: 1, 4, ... BACKING: anonymous, memfd or hugetlb.
# FEATURES: on, or off: a balloon that offers no more than inflate and deflate.
. "${0%/*}/lib.sh"

RAM_MIB=256
POOL=/proc/sys/vm/nr_hugepages
OFF=hinting=off,reporting=off,stats=off,poison=off,deflate-on-oom=off
OFF=$OFF,must-tell-host=off

pool_before=$(cat "$POOL" 2>/dev/null)

give_huge_pages_back() {
	[ "$(cat "$POOL" 2>/dev/null)" = "$pool_before" ] ||
		echo "$pool_before" >"$POOL"
} 2>/dev/null
# The status must reach end_started.
trap '_status=$?; give_huge_pages_back; (exit "$_status"); end_started' EXIT

# Both ends of a move hold the whole guest for a moment.
huge_pages_for_two() {
	[ "$(cat "$POOL")" -ge "$RAM_MIB" ] || echo "$RAM_MIB" >"$POOL"
	[ "$(cat "$POOL")" -ge "$RAM_MIB" ]
} 2>/dev/null

# cell NAME KERNEL CPUS BACKING FEATURES
cell() {
	vm=$1
	what="Linux $2, $3 CPUs, $4, features $5"
	if ! stock_kernel "$2"; then
		skip "$what: no such kernel to be had here"
		return
	fi
	if [ "$4" = hugetlb ] && ! huge_pages_for_two; then
		skip "$what: no $RAM_MIB huge pages to be had here"
		return
	fi
	balloon=
	[ "$5" = on ] || balloon="--balloon $OFF"
	# shellcheck disable=SC2086
	start_vm "$vm" --kernel "$stock_kernel" --initrd "$stock_initrd" \
		--memory "${RAM_MIB}M" --cpus "$3" --backing "$4" $balloon \
		--append "console=ttyS0 loglevel=4 panic=-1"
	agent_ready "$vm.serial" 120 || fail "$what: the guest did not boot"
	agent "$vm.serial" keep 24 31 >/dev/null || fail "keep"
	agent "$vm.serial" dirty 120 32 >/dev/null || fail "dirty"
	agent "$vm.serial" writer 8 4 33 >/dev/null || fail "writer"
	"$AEROSTAT" balloon --control "$vm.sock" $((RAM_MIB - 48))M --wait \
		--json >"$OUT/$vm.balloon" ||
		fail "$what: $(cat "$OUT/$vm.balloon")"
	move "$vm" "$vm-there" --verify
	[ "$(balloon_of "$vm-there" .actual)" = $(((RAM_MIB - 48) << 20)) ] ||
		fail "$what: the balloon lost its size"
	memory_intact "$vm-there"
	agent "$vm-there.serial" writer-check >/dev/null ||
		fail "$what: the writer's pages differ"
	hints=$(figure "$vm-there" .hints_received)
	if [ "$5" = on ]; then
		[ "$hints" -gt 0 ] || fail "$what: no hints"
	else
		[ "$hints" = 0 ] || fail "$what: $hints hints"
	fi
	"$AEROSTAT" balloon --control "$vm-there.sock" "${RAM_MIB}M" --wait \
		--json >"$OUT/$vm.balloon" ||
		fail "$what: $(cat "$OUT/$vm.balloon")"
	agent "$vm-there.serial" dirty 120 34 >/dev/null || fail "dirty there"
	memory_intact "$vm-there"
	agent "$vm-there.serial" poweroff >/dev/null
	end_of_vm "$vm-there" 30 || fail "$what: power-off: status $?"
	pass "$what: moved, $hints hints," \
		"$(figure "$vm-there" .pages_sent) pages sent, intact"
}

# While memory is in one piece.
case $* in
*hugetlb*) huge_pages_for_two || note "too few huge pages" ;;
esac
number=0
for word; do
	number=$((number + 1))
	IFS=: read -r kernel cpus backing features <<END
$word
END
	note "$word"
	cell "cell$number" "$kernel" "$cpus" "$backing" "$features"
done
