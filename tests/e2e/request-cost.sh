#!/bin/sh
# What a balloon request costs, by protocol and size: one line of CSV a request
# to $OUT/cost.csv, and a check that the counts are the same each time.
#
#   request-cost.sh bare|linux [ROUNDS]
#
# bare: the bare guest, every protocol, memory given back by ranges and, with
# $BY_PAGE, page by page. linux: a Debian guest with its own driver and with our
# module (which does not speak v17). Each round takes every variant in turn.
. "${0%/*}/lib.sh"

KIND=${1:-bare}
ROUNDS=${2:-1}
RAM_MIB=1280
DIRTY_MIB=1100
SMALL_COUNT=20
CSV=$OUT/cost.csv

[ -n "${REQUEST:-}" ] || {
	skip "no request client (ninja -C build bench/request)"
	exit 0
}
echo "guest,variant,release,round,direction,pages,ns,config_reads,config_writes,kicks,config_interrupts,queue_interrupts,exits,mmio,io,halt,injected,device_ns,vcpu_ns" >"$CSV"

# options VARIANT: of --balloon
options() {
	case $1 in
	standard-no-hinting) echo "hinting=off,reporting=off,stats=off" ;;
	standard*) echo "reporting=off,stats=off" ;;
	command-register*) echo "protocol=command-register,reporting=off,stats=off" ;;
	page-ranges) echo "page-ranges=on,reporting=off,stats=off" ;;
	v17) echo "protocol=v17,reporting=off,stats=off" ;;
	esac
}

# boot VARIANT: the machine $VM
boot() {
	serial=$((serial + 1))
	VM=cost-$serial
	if [ "$KIND" = bare ]; then
		start_vm "$VM" --kernel "$BARE" --memory "${RAM_MIB}M" \
			--balloon "$(options "$1")"
	else
		case $1 in
		*-module) image=$INITRDMODULE ;;
		*) image=$INITRD ;;
		esac
		start_vm "$VM" --kernel "$KERNEL" --initrd "$image" \
			--memory "${RAM_MIB}M" --balloon "$(options "$1")" \
			--append "console=ttyS0 loglevel=4 panic=-1 init_on_alloc=0"
	fi
	agent_ready "$VM.serial" 120 || fail "the guest of $1 does not answer"
	[ "$KIND" = linux ] || tell "$VM" poll 20
}

# requests PAGES COUNT
requests() {
	tell "$VM" dirty "$DIRTY_MIB" "$serial"
	"$REQUEST" "$VM.sock" "$(cat "$VM.pid")" "$1" "$2" \
		"$KIND,$variant,$release,$round" >>"$CSV" ||
		fail "$variant, $1 pages"
}

one_machine() {
	boot "$variant"
	requests 1 "$SMALL_COUNT"
	requests 256 "$SMALL_COUNT"
	[ "$ROUNDS" = 0 ] || requests 262144 1
	"$AEROSTAT" quit --control "$VM.sock" >/dev/null
	end_of_vm "$VM" 20 || fail "$VM did not end: $?"
}

# The counts of one variant and size are the same whenever they are taken.
same_each_time() {
	sort -u "$OUT/counts" >"$OUT/counts.unique"
	while IFS=, read -r _variant _pages _counts; do
		[ "$(grep -c "^$_variant,$_pages," "$OUT/counts.unique")" = 1 ] ||
			fail "$_variant, $_pages pages: $(grep "^$_variant,$_pages," \
				"$OUT/counts" | sort | uniq -c | tr '\n' ';')"
	done <"$OUT/counts.unique"
}

serial=0
if [ "$KIND" = bare ]; then
	variants="standard-no-hinting standard command-register v17 page-ranges"
	ways="ranges pages"
else
	variants="standard-no-hinting standard standard-module command-register-module"
	ways=ranges
fi
shipped=$AEROSTAT
for round in $(seq "$((ROUNDS > 0 ? ROUNDS : 1))"); do
	for release in $ways; do
		AEROSTAT=$shipped
		[ "$release" = ranges ] || AEROSTAT=${BY_PAGE:-}
		[ -n "$AEROSTAT" ] || continue
		for variant in $variants; do
			one_machine
		done
	done
done
# Inflating only: guests give back in chunks of their own.
sed -n '/,inflate,\(1\|256\),/p' "$CSV" | cut -d, -f 2,6,8-12 >"$OUT/counts"
same_each_time
sed 's/^/-- per request (variant, pages, reads, writes, kicks, interrupts of configuration, of queues): /' \
	"$OUT/counts.unique"
pass "$(wc -l <"$OUT/counts") requests of $(wc -l <"$OUT/counts.unique") kinds," \
	"the same counts for each of a kind"
