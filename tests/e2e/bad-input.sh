#!/bin/sh
# What a user or a peer can get wrong where there is KVM: one clear line, status
# 1, nothing left behind, and a running guest keeps running.
. "${0%/*}/lib.sh"

[ -n "${BARE:-}" ] || fail "no bare guest"

# one_line FILE WORD WHAT
one_line() {
	[ "$(wc -l <"$1")" = 1 ] || fail "$3: not one line: $(cat "$1")"
	grep -q -e "$2" "$1" || fail "$3: no '$2' in: $(cat "$1")"
	pass "$3: $(cat "$1")"
}

# refuses WORD ARGS...: aerostat run ends with 1 and that word.
refuses() {
	_word=$1
	shift
	"$AEROSTAT" run --serial none --control bad.sock "$@" >out 2>err
	[ $? = 1 ] || fail "run $*: not status 1: $(cat err)"
	one_line err "$_word" "run $*"
	[ ! -e bad.sock ] || fail "run $*: left a socket"
}

note "kernels"
echo "not a kernel at all, but long enough to be read as one" >text
: >empty
head -c 3000 "$BARE" >short
head -c 200000 /dev/zero >zeroes
refuses 'No such file' --kernel missing --memory 64M
refuses 'empty' --kernel empty --memory 64M
refuses 'not a plain file' --kernel . --memory 64M
refuses 'neither' --kernel text --memory 64M
refuses 'neither' --kernel zeroes --memory 64M
refuses 'short' --kernel short --memory 64M
refuses 'No such file' --kernel "$BARE" --initrd missing --memory 64M
head -c 40000000 /dev/zero >huge
refuses 'more --memory' --kernel "$BARE" --initrd huge --memory 32M
if [ -n "${KERNEL:-}" ]; then
	refuses 'more --memory' --kernel "$KERNEL" --memory 32M
else
	skip "no Linux kernel here to give too little memory"
fi

note "a running guest, and sockets in use"
start_vm live --kernel "$BARE" --memory 64M
agent_ready live.serial 60 || fail "the bare guest does not answer"
agent live.serial keep 8 1 >/dev/null || fail "keep"
lives() {
	[ "$(state live)" = running ] || fail "$1: the guest does not run"
	agent live.serial check >/dev/null || fail "$1: memory differs"
}
"$AEROSTAT" run --kernel "$BARE" --memory 64M --serial none \
	--control live.sock >out 2>err
[ $? = 1 ] || fail "a control socket in use was taken"
one_line err 'in use' "control socket in use"
lives "socket in use"

note "where to move to"
moves_nowhere() {
	_word=$1
	shift
	"$AEROSTAT" migrate --control live.sock "$@" >out 2>err
	[ $? = 1 ] || fail "migrate $*: not status 1"
	one_line err "$_word" "migrate $*"
	lives "migrate $*"
}
moves_nowhere 'pigeon' pigeon:loft
moves_nowhere 'HOST:PORT' tcp:nowhere
moves_nowhere 'refused' tcp:127.0.0.1:1
moves_nowhere 'No such file' unix:nobody
moves_nowhere 'fd:99' fd:99

# A peer that is no aerostat, and one that closes at once.
printf 'HTTP/1.0 400 Bad Request\r\n\r\nhello, hello' >alien
socat -u FILE:alien UNIX-LISTEN:alien.move &
STARTED="$STARTED $!"
wait_for 5 test -S alien.move
moves_nowhere 'the destination\|the other side' unix:alien.move

note "streams"
# incoming_refuses WORD FILE WHAT: a destination that is given these bytes.
incoming_refuses() {
	"$AEROSTAT" run --incoming unix:in.move --control in.sock \
		--serial none >out 2>err &
	_pid=$!
	wait_for 10 test -S in.move || fail "$3: the destination does not listen"
	socat -u "FILE:$2" UNIX-CONNECT:in.move
	wait "$_pid"
	[ $? = 1 ] || fail "$3: not status 1"
	one_line err "$1" "$3"
	[ ! -e in.sock ] && [ ! -e in.move ] || fail "$3: left a socket"
}
incoming_refuses 'not an aerostat' text "an alien stream"
incoming_refuses 'closed' empty "an empty stream"
printf 'AEROSTAT\011\000\000\000\011\000\000\000\000\000\000\000\000\000\000\000' >future
incoming_refuses 'version 9' future "a stream from the future"
printf 'AEROSTAT\001\000\000\000\001\000\000\000\000\000\000\000\000\000\000\000' >cut
incoming_refuses 'closed' cut "a stream cut after its header"
{ cat cut; printf '\001\000\000\000\000\000\000\000\377\377\377\377\377\377\377\177'; } >long
incoming_refuses 'too long' long "a record of 2^63 bytes"
{ cat cut; printf '\002\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000'; } >order
incoming_refuses 'out of place' order "a record out of place"

note "a real stream, cut at several places"
socat -u UNIX-LISTEN:record.move CREATE:recorded &
STARTED="$STARTED $!"
wait_for 5 test -S record.move
"$AEROSTAT" migrate --control live.sock unix:record.move >out 2>err &
mover=$!
sleep 3
kill -INT "$mover"
wait "$mover"
lives "a move that nobody answers"
size=$(wc -c <recorded)
[ "$size" -gt 100 ] || fail "nothing was recorded"
for part in 40 100 $((size - 1)); do
	head -c "$part" recorded >part
	incoming_refuses 'closed\|cut short' part "a real stream cut after $part bytes"
done

note "a destination that dies in the middle"
agent live.serial dirty 30 2 >/dev/null
start_vm dies --incoming unix:dies.move
"$AEROSTAT" migrate --control live.sock --bandwidth 1M unix:dies.move >out 2>err &
mover=$!
sleep 2
kill -9 "$(cat dies.pid)"
wait "$mover"
[ $? = 1 ] || fail "the move did not fail"
one_line err 'closed the connection' "a destination that dies"
lives "a destination that dies"

note "the end"
"$AEROSTAT" quit --control live.sock || fail "quit"
end_of_vm live 20 || fail "quit: status $?"
[ ! -e live.sock ] && [ ! -e live.serial ] || fail "quit left sockets"
pass "quit leaves nothing behind"
