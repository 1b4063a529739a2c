#!/bin/sh
# The demonstration: a stock Debian guest of 2 GiB dirties and frees 1.2 GiB,
# then moves twice, without and with free page hinting. Leaves result.json.
. "${0%/*}/lib.sh"

RAM_MIB=2048
DIRTY_MIB=1229
KEEP_MIB=100
RAM_KB=$((RAM_MIB * 1024))

in_use_kb() {
	mem_in_use "$1" "$RAM_KB" || fail "no meminfo from the guest"
}

# Reporting would give the freed memory back before either move, and there would
# be nothing to compare.
note "booting Debian's kernel in a guest of $RAM_MIB MiB"
start_vm one --kernel "$KERNEL" --initrd "$INITRD" --memory "${RAM_MIB}M" \
	--balloon reporting=off --append "console=ttyS0 loglevel=4 panic=-1"
agent_ready one.serial 120 || fail "the guest did not boot"
note "the guest keeps $KEEP_MIB MiB, and dirties and frees $DIRTY_MIB MiB"
agent one.serial keep "$KEEP_MIB" 7 >/dev/null || fail "keep"
agent one.serial dirty "$DIRTY_MIB" 9 >/dev/null || fail "dirty"

note "moving it without hinting"
move one two --no-hinting
agent two.serial check >"$OUT/check1" || fail "memory differs: $(cat "$OUT/check1")"

used=$(in_use_kb two.serial)
note "in use: $((used / 1024)) MiB; moving it with hinting"
move two three
check=ok
agent three.serial check >"$OUT/check2" || check=$(tr '\n' ' ' <"$OUT/check2")

jq -n --argjson used "$((used * 1024))" --arg check "$check" \
	--slurpfile without "$OUT/two.json" --slurpfile with "$OUT/three.json" \
	'{in_use_bytes: $used, check: $check, without: $without[0], with: $with[0]}' \
	>"$OUT/result.json" || fail "no result.json"
agent three.serial poweroff >/dev/null
end_of_vm three 20 || fail "the guest did not power off"
[ "$check" = ok ] || fail "memory differs: $check"
pass "the guest's memory is intact"

# What this project promises (docs/architecture.md).
used=$((used * 1024))
sent=$(figure three .bytes_sent)
at_most "bytes sent, of bytes in use" "$sent" "$used" 110
at_most "bytes sent with hinting, of those without" "$sent" \
	"$(figure two .bytes_sent)" 20
at_most "resident at the destination, of bytes in use" \
	"$(figure three .destination_rss_bytes)" "$used" 115
[ "$(figure three .hints_late)" = 0 ] || fail "hints came too late"
pass "no hint came too late"
