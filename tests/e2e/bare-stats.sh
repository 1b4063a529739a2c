#!/bin/sh
# aerostat stats: what a guest says, how it is watched, and why there is nothing.
. "${0%/*}/lib.sh"

[ -n "${BARE:-}" ] || fail "no bare guest"

# boot VM ARGS...
boot() {
	_vm=$1
	shift
	start_vm "$_vm" --kernel "$BARE" --memory 64M "$@"
	agent_ready "$_vm.serial" 60 || fail "the bare guest does not answer"
}

# says_why VM WORD: no statistics, and one line that tells the reason.
says_why() {
	"$AEROSTAT" stats --control "$1.sock" >out 2>err
	[ $? = 1 ] || fail "$1: not status 1: $(cat out err)"
	[ ! -s out ] || fail "$1: it wrote to stdout"
	[ "$(wc -l <err)" = 1 ] || fail "$1: not one line: $(cat err)"
	grep -q -e "$2" err || fail "$1: no '$2' in: $(cat err)"
	pass "$(cat err)"
}

updates() {
	"$AEROSTAT" stats --control vm.sock --json | jq -r .updates
}

lines() {
	[ "$(wc -l <"$1")" -ge "$2" ]
}

note "once"
boot vm
first=$(updates)
second=$(updates)
[ "$second" -gt "$first" ] || fail "updates: $first, then $second"
pass "each question has an answer of its own: $first, then $second"
"$AEROSTAT" stats --control vm.sock >"$OUT/stats" || fail "stats"
for word in memory total free 'resident here'; do
	grep -q "$word" "$OUT/stats" || fail "no '$word' in: $(cat "$OUT/stats")"
done
pass "people are told, too"

note "again and again"
: >watch
: >watch.err
: >table
"$AEROSTAT" stats --control vm.sock --watch 0.2 --json >watch 2>watch.err &
watch=$!
STARTED="$STARTED $watch"
wait_for 10 lines watch 3 || fail "no three samples: $(cat watch watch.err)"
"$AEROSTAT" pause --control vm.sock || fail "pause"
wait_for 10 lines watch.err 1 || fail "a pause is not told"
says_why vm "paused.* s old"
"$AEROSTAT" resume --control vm.sock || fail "resume"
seen=$(wc -l <watch)
wait_for 10 lines watch $((seen + 3)) || fail "it does not go on: $(cat watch.err)"
kill -INT "$watch"
wait "$watch" || fail "Ctrl-C: status $?: $(cat watch.err)"
[ "$(wc -l <watch.err)" = 1 ] || fail "not one line: $(cat watch.err)"
jq -s -e 'length >= 6 and ([.[].updates] | . == (unique | sort))' watch \
	>/dev/null || fail "updates do not rise: $(cat watch)"
pass "$(wc -l <watch) samples over a pause, until Ctrl-C"

"$AEROSTAT" stats --control vm.sock --watch 0.2 >table 2>table.err &
watch=$!
STARTED="$STARTED $watch"
wait_for 10 lines table 4 || fail "no three samples: $(cat table table.err)"
"$AEROSTAT" quit --control vm.sock || fail "quit"
wait "$watch"
[ $? = 1 ] || fail "the machine has ended: not status 1"
[ "$(wc -l <table.err)" = 1 ] || fail "not one line: $(cat table.err)"
grep -q 'has ended' table.err || fail "no reason: $(cat table.err)"
[ "$(grep -c '^time ' table)" = 1 ] || fail "not one header: $(cat table)"
[ "$(awk '{ print NF }' table | sort -u)" = 9 ] ||
	fail "not nine columns: $(cat table)"
pass "a table, until $(cat table.err)"

note "why there is nothing"
boot none --no-balloon
says_why none 'no balloon'
[ "$(qmp none x-query-statistics | jq -r .error.class)" = DeviceNotActive ] ||
	fail "QMP: $(qmp none x-query-statistics)"
boot off --balloon=stats=off
says_why off 'stats=off'
start_vm asleep --kernel "$BARE" --memory 64M --paused
says_why asleep 'no balloon driver'
start_vm coming --incoming unix:coming.move
says_why coming 'still coming in'
