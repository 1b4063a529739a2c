#!/bin/sh
# Large machines: RAM above 4 GiB in use and moved, 1 TiB of it, 32 CPUs.
#
#   bare-large.sh [PART...]		(high, terabyte, cpus; default: all)
. "${0%/*}/lib.sh"

PARTS=${*:-high terabyte cpus}
MIB=1048576
HIGH_NEEDS_MIB=12288
FIRST_HIGH_PAGE=$((4096 * 256))

[ -n "${BARE:-}" ] || fail "no bare guest"

end() {
	agent "$1.serial" poweroff >/dev/null
	end_of_vm "$1" 60 || fail "power-off: status $?"
}

# moved VM: what its move took.
moved() {
	figure "$1" '"\(.total_ms) ms (set-up \(.setup_ms), report \(.report_ms), downtime \(.downtime_ms)), \(.bytes_sent) bytes"'
}

# Guests this large keep their word, but may take longer.
AGENT_SECONDS=180

available_mib() {
	echo $(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
}

# --------------------------------------------------- above the 3 GiB hole ---

high() {
	note "6 GiB with 4.5 GiB in use"
	if [ "$(available_mib)" -lt $HIGH_NEEDS_MIB ]; then
		skip "6 GiB with 4.5 GiB in use: $(available_mib) MiB are available here and $HIGH_NEEDS_MIB are needed"
		return
	fi
	start_vm high0 --kernel "$BARE" --memory 6G
	agent_ready high0.serial 60 || fail "the bare guest does not answer"
	tell high0 keep 4000 1
	tell high0 keep-high 608 2
	tell high0 take 8
	tell high0 pages-from $FIRST_HIGH_PAGE
	above=$(sed -n 's/^pages //p' "$OUT/high0.reply")
	[ "$above" -gt $((1500 * 256)) ] ||
		fail "only $above pages are in use above 4 GiB"
	move high0 high1
	memory_intact high1
	[ "$(sed -n 's/^pages \([0-9]*\) bad 0/\1/p' "$OUT/high1.check")" -ge $((4608 * 256)) ] ||
		fail "not all was looked at: $(cat "$OUT/high1.check")"
	pass "6 GiB, $above pages in use above 4 GiB, moved in $(moved high1); $(head -n 1 "$OUT/high1.check")"
	tell high1 untake
	# Frames above 4 GiB go and come back, too.
	"$AEROSTAT" balloon --control high1.sock 4800M --wait >"$OUT/balloon" ||
		fail "balloon: $(cat "$OUT/balloon")"
	tell high1 report-now
	at_most "resident with 4800 MiB to keep" "$(rss high1)" \
		$((4800 * MIB)) 102
	"$AEROSTAT" balloon --control high1.sock 6G --wait >"$OUT/balloon" ||
		fail "balloon: $(cat "$OUT/balloon")"
	memory_intact high1
	pass "and back from the balloon; $(head -n 1 "$OUT/high1.check")"
	end high1
}

# ---------------------------------------------------------------- 1 TiB ---

terabyte() {
	note "1 TiB"
	uptime_seconds
	began=$_uptime
	"$AEROSTAT" run --kernel "$BARE" --memory 1T --serial none --paused \
		--control probe.sock >"$OUT/probe.log" 2>&1 &
	_pid=$!
	STARTED="$STARTED $_pid"
	echo "$_pid" >probe.pid
	wait_for 30 probe_settled
	if gone "$_pid"; then
		skip "1 TiB: $(tail -n 1 "$OUT/probe.log")"
		return
	fi
	kill "$_pid"
	wait "$_pid"
	start_vm tera0 --kernel "$BARE" --memory 1T
	agent_ready tera0.serial 120 || fail "the bare guest does not answer"
	uptime_seconds
	booted=$((_uptime - began))
	tell tera0 keep-high 64 3
	tell tera0 keep 16 4
	tell tera0 pages-from $((500 * 1024 * 256))
	[ "$(sed -n 's/^pages //p' "$OUT/tera0.reply")" -ge $((64 * 256)) ] ||
		fail "nothing is in use high up"
	move tera0 tera1 --verify
	memory_intact tera1
	pass "1 TiB (512 GiB of it the guest's) booted in $booted s or less, moved in $(moved tera1), hints $(figure tera1 .hints_received); $(head -n 1 "$OUT/tera1.check")"
	move tera1 tera2 --no-hinting
	memory_intact tera2
	pass "1 TiB without hints moved in $(moved tera2); $(head -n 1 "$OUT/tera2.check")"
	end tera2
}

probe_settled() {
	[ -S probe.sock ] || gone "$(cat probe.pid)"
}

# -------------------------------------------------------------- 32 CPUs ---

cpus() {
	note "32 CPUs"
	start_vm cpus0 --kernel "$BARE" --memory 256M --cpus 32
	agent_ready cpus0.serial 120 || fail "the bare guest does not answer"
	tell cpus0 keep 64 5
	tell cpus0 writer 8 8 6
	move cpus0 cpus1 --verify
	[ "$("$AEROSTAT" status --control cpus1.sock --json | jq -r .cpus)" = 32 ] ||
		fail "not 32 CPUs there"
	memory_intact cpus1
	writer_intact cpus1
	agent cpus1.serial reboot >/dev/null || fail "reboot"
	wait_for 60 agent_pings cpus1.serial || fail "no answer after a reboot"
	tell cpus1 keep 64 7
	move cpus1 cpus2
	memory_intact cpus2
	pass "32 CPUs booted, moved in $(moved cpus1), rebooted, moved in $(moved cpus2); $(head -n 1 "$OUT/cpus2.check")"
	end cpus2
}

for part in $PARTS; do
	"$part"
done
