#!/bin/sh
# What a stock Debian guest gives back, and what it says of itself.
#
#   linux-balloon.sh [PART...]
#
# Parts: inflate (1 GiB of 2, and back), huge (what that leaves of the host's huge
# pages), pool (memory of nothing but such), oom (a guest that runs short takes from
# its balloon), reporting (what the guest frees is given back without being asked
# for, and a move leaves it out), stats and stats612 (the guest's statistics,
# against its /proc); all of them by default. stats612 is for $KERNEL612.
. "${0%/*}/lib.sh"

PARTS=${*:-inflate huge pool oom reporting stats stats612}
RAM_MIB=2048
RAM_KB=$((RAM_MIB * 1024))
MIB=1048576
COMMON="console=ttyS0 loglevel=4 panic=-1"

# boot VM MIB [OPTION...]
boot() {
	_vm=$1
	_mib=$2
	shift 2
	start_vm "$_vm" --kernel "$stock_kernel" --initrd "$stock_initrd" \
		--memory "${_mib}M" --append "$COMMON" "$@"
	agent_ready "$_vm.serial" 120 || fail "the guest did not boot"
}

power_off() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 30 || fail "power-off: status $?"
}

# ------------------------------------------------------------- inflate ---

inflate() {
	note "inflate by 1 GiB, and deflate"
	# Without reporting, which would give the freed memory back by itself.
	boot inflate "$RAM_MIB" --balloon reporting=off
	agent inflate.serial keep 100 41 >/dev/null || fail "keep"
	agent inflate.serial dirty 1700 42 >/dev/null || fail "dirty"
	before=$(rss inflate)
	at_least "resident once the guest has dirtied and freed 1.7 GiB" \
		"$before" $((1229 * MIB))
	"$AEROSTAT" balloon --control inflate.sock 1G --wait --json \
		>"$OUT/inflate.json" || fail "inflate: $(cat "$OUT/inflate.json")"
	inflated=$(rss inflate)
	at_most "resident while the guest keeps 1 GiB" "$inflated" \
		$((1024 * MIB)) 100
	at_least "inflating gave back" $((before - inflated)) $((922 * MIB))
	memory_intact inflate
	pass "memory intact: $(cat "$OUT/inflate.check")"

	"$AEROSTAT" balloon --control inflate.sock "${RAM_MIB}M" --wait --json \
		>"$OUT/deflate.json" || fail "deflate: $(cat "$OUT/deflate.json")"
	deflated=$(rss inflate)
	at_most "resident right after deflating (nothing was touched)" \
		"$deflated" $((inflated + 64 * MIB)) 100
	agent inflate.serial dirty 1700 43 >/dev/null || fail "dirty"
	again=$(rss inflate)
	at_least "the guest took back into use" $((again - deflated)) \
		$((922 * MIB))
	memory_intact inflate
	pass "memory intact: $(cat "$OUT/inflate.check")"
	power_off inflate
}

# ---------------------------------------------------------- huge pages ---

huge_percent() {
	"$AEROSTAT" status --control "$1.sock" --json |
		jq -r '.huge_bytes * 100 / .rss_bytes | floor'
}

# What is left of the host's huge pages when small ones were taken out of them,
# and when they are back.
huge_pages() {
	note "transparent huge pages, $2"
	boot "$1" "$RAM_MIB" --balloon "reporting=off,$2"
	agent "$1.serial" keep 100 71 >/dev/null || fail "keep"
	agent "$1.serial" dirty 1700 72 >/dev/null || fail "dirty"
	first=$(huge_percent "$1")
	"$AEROSTAT" balloon --control "$1.sock" 1G --wait --json \
		>"$OUT/$1.json" || fail "inflate: $(cat "$OUT/$1.json")"
	sleep 1
	note "resident $(($(rss "$1") / MIB)) MiB, $(balloon_of "$1" .held_pages) pages wait"
	small=$(huge_percent "$1")
	"$AEROSTAT" balloon --control "$1.sock" "${RAM_MIB}M" --wait --json \
		>"$OUT/$1.json" || fail "deflate: $(cat "$OUT/$1.json")"
	agent "$1.serial" dirty 1700 73 >/dev/null || fail "dirty"
	last=$(huge_percent "$1")
	memory_intact "$1"
	note "of resident memory in huge pages: $first %, $small % with 1 GiB in the balloon, $last % when it was back"
	power_off "$1"
}

huge() {
	huge_pages tells must-tell-host=on
	if [ "$first" -lt 80 ]; then
		skip "this host makes no transparent huge pages of it"
		return
	fi
	at_least "percent in huge pages with 1 GiB in the balloon" "$small" 80
	at_least "percent in huge pages when it was back" "$last" 80
	huge_pages silent must-tell-host=off
}

# Memory of the host's pool is given back, though small pages go into the balloon.
pool() {
	note "huge pages of the host's pool"
	if ! have_huge_pages 256; then
		skip "$(free_huge_pages) huge pages are free and 256 are needed"
		return
	fi
	boot pool 512 --backing hugetlb --balloon reporting=off
	agent pool.serial keep 100 81 >/dev/null || fail "keep"
	agent pool.serial dirty 300 82 >/dev/null || fail "dirty"
	before=$(rss pool)
	"$AEROSTAT" balloon --control pool.sock 272M --wait --json \
		>"$OUT/pool.json" || fail "inflate: $(cat "$OUT/pool.json")"
	note "$(($(balloon_of pool .held_pages) / 256)) MiB wait"
	at_least "given back of 240 MiB" $((before - $(rss pool))) $((200 * MIB))
	memory_intact pool
	"$AEROSTAT" balloon --control pool.sock 512M --wait --json \
		>"$OUT/pool.json" || fail "deflate: $(cat "$OUT/pool.json")"
	agent pool.serial dirty 300 83 >/dev/null || fail "dirty"
	memory_intact pool
	pass "memory intact: $(cat "$OUT/pool.check")"
	power_off pool
}

# ----------------------------------------------------------- deflate-on-oom ---

# D8: a guest that runs short takes pages of its balloon rather than end what
# runs in it. (Here that would be its init.)
oom() {
	note "deflate-on-oom"
	boot oom 384
	negotiated oom deflate-on-oom || fail "deflate-on-oom is not negotiated"
	"$AEROSTAT" balloon --control oom.sock 160M --wait --json \
		>"$OUT/oom.json" || fail "inflate: $(cat "$OUT/oom.json")"
	agent oom.serial keep 170 61 >/dev/null || fail "keep"
	memory_intact oom
	kept=$(balloon_of oom .actual)
	at_least "what the guest keeps beyond the 160 MiB it may" \
		$((kept - 160 * MIB)) $((50 * MIB))
	pass "deflate-on-oom: kept 170 MiB where it may keep 160 in all, intact"
	power_off oom
}

# ----------------------------------------------------------- reporting ---

reporting() {
	note "free page reporting"
	boot report "$RAM_MIB"
	negotiated report reporting || fail "reporting is not negotiated"
	agent report.serial keep 100 51 >/dev/null || fail "keep"
	agent report.serial dirty 1229 52 >/dev/null || fail "dirty"
	note "resident after dirtying and freeing 1.2 GiB:" \
		"$(($(rss report) / MIB)) MiB"
	reporting_gives_back report "$RAM_KB"
	memory_intact report
	move report arrived --no-hinting
	memory_intact arrived
	pass "moved without hinting: $(cat "$OUT/arrived.check")"
	at_most "bytes sent without hinting, of in use" \
		"$(figure arrived .bytes_sent)" "$used" 110
	agent arrived.serial keep 800 53 >/dev/null || fail "keep"
	agent arrived.serial dirty 800 54 >/dev/null || fail "dirty"
	memory_intact arrived
	pass "800 MiB taken back into use: $(cat "$OUT/arrived.check")"
	reporting_gives_back arrived "$RAM_KB"
	memory_intact arrived
	power_off arrived
}

# ---------------------------------------------------------- statistics ---

STATS_MIB=384
TOLERANCE=$((4 * MIB))

# Makes every counter move: huge pages until there are no more, a full page
# cache, memory pressure, a child killed for lack of memory, swap.
make_work() {
	agent "$1.serial" keep 16 61 >/dev/null || fail "keep"
	agent "$1.serial" huge-pages 180 >/dev/null || fail "huge-pages"
	agent "$1.serial" huge-pages 0 >/dev/null || fail "huge-pages"
	agent "$1.serial" cache 200 >/dev/null || fail "cache"
	agent "$1.serial" dirty 250 62 >/dev/null || fail "dirty"
	! agent "$1.serial" dirty 330 63 >/dev/null ||
		fail "dirtying 330 MiB of $STATS_MIB did not fail"
	agent "$1.serial" swap 32 >/dev/null || fail "swap"
	agent "$1.serial" swap-out >/dev/null || fail "swap-out"
	memory_intact "$1"
}

# guest_says FILE NAME...: the sum of these lines (a name may end in *).
guest_says() {
	_file=$1
	shift
	awk -v names="$*" '
		BEGIN { count = split(names, name, " ") }
		{ key = $1; sub(/:$/, "", key)
		  for (i = 1; i <= count; i++) {
			stem = name[i]
			if (sub(/\*$/, "", stem) ? index(key, stem) == 1 : key == stem) {
				sum += $2; found = 1
			}
		  } }
		END { if (found) printf "%.0f\n", sum; else exit 1 }' "$_file"
}

# both_say FACTOR NAME...: sets before and after, in the unit of the balloon.
both_say() {
	_factor=$1
	shift
	before=$(guest_says "$OUT/$vm.before" "$@") ||
		fail "the guest does not say: $*"
	after=$(guest_says "$OUT/$vm.after" "$@") ||
		fail "the guest does not say: $*"
	before=$((before * _factor))
	after=$((after * _factor))
}

# statistic KEY: sets value.
statistic() {
	value=$(jq -r ".$1" "$OUT/$vm.stats")
	[ "$value" != null ] || fail "the guest does not send $1"
}

# grows KEY FACTOR NAME...: what only grows.
grows() {
	_key=$1
	shift
	statistic "$_key"
	both_say "$@"
	[ "$before" -le "$value" ] && [ "$value" -le "$after" ] ||
		fail "$_key: $value is not from $before to $after"
	[ "$value" -gt 0 ] || fail "$_key: 0 shows nothing"
	pass "$vm: $_key: $value is from $before to $after"
}

# varies KEY FACTOR NAME...: what goes up and down.
varies() {
	_key=$1
	shift
	statistic "$_key"
	both_say "$@"
	_off=$((value - before))
	_moved=$((after - before))
	[ "${_off#-}" -le $((TOLERANCE + ${_moved#-})) ] ||
		fail "$_key: $value, where the guest says $before, then $after"
	pass "$vm: $_key: $value, where the guest says $before, then $after"
}

ask() {
	agent "$vm.serial" statistics >"$OUT/$vm.before" || fail "statistics"
	"$AEROSTAT" stats --control "$vm.sock" --json >"$OUT/$vm.stats" ||
		fail "aerostat stats: $(cat "$OUT/$vm.stats")"
	agent "$vm.serial" statistics >"$OUT/$vm.after" || fail "statistics"
}

newer_statistics() {
	grows oom_kills 1 oom_kill
	grows alloc_stalls 1 'allocstall_*'
	grows async_scans 4096 pgscan_kswapd
	grows direct_scans 4096 pgscan_direct
	grows async_reclaims 4096 pgsteal_kswapd
	grows direct_reclaims 4096 pgsteal_direct
}

no_newer_statistics() {
	_sent=$(jq -r 'keys - ["updates", "age_ms", "swap_in", "swap_out",
		"major_faults", "minor_faults", "free", "total", "available",
		"disk_caches", "hugetlb_allocations", "hugetlb_failures"] |
		join(" ")' "$OUT/$vm.stats")
	[ -z "$_sent" ] || fail "Linux 6.1 sends no such thing: $_sent"
	pass "$vm: none of the six newer statistics, which 6.1 does not send"
}

# statistics VM KERNEL
statistics() {
	vm=$1
	note "statistics, Linux $2"
	if ! stock_kernel "$2"; then
		skip "statistics of Linux $2: no such kernel to be had here"
		return
	fi
	boot "$vm" "$STATS_MIB"
	make_work "$vm"
	ask
	grows swap_in 4096 pswpin
	grows swap_out 4096 pswpout
	grows major_faults 1 pgmajfault
	grows minor_faults 1 pgfault
	grows hugetlb_allocations 1 htlb_buddy_alloc_success
	grows hugetlb_failures 1 htlb_buddy_alloc_fail
	varies free 1024 MemFree
	varies total 1024 MemTotal
	varies available 1024 MemAvailable
	varies disk_caches 4096 nr_file_pages
	if [ "$2" = 6.1 ]; then
		no_newer_statistics
	else
		newer_statistics
	fi
	power_off "$vm"
}

for part in $PARTS; do
	stock_kernel 6.1
	case $part in
	inflate | huge | pool | oom | reporting) $part ;;
	stats) statistics stats 6.1 ;;
	stats612) statistics stats612 6.12 ;;
	*) fail "no such part: $part" ;;
	esac
done
