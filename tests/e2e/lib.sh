# shellcheck shell=sh
# Helpers for scenarios, for bash and busybox sh:  . "${0%/*}/lib.sh"
#
# lab/run gives AEROSTAT, BARE, KERNEL, INITRD (the paths of our binary, the
# bare guest, the stock guest's kernel and initramfs), OUT (what is put there is
# kept) and an empty working directory. Sockets live in that directory. A
# scenario that mentions KERNEL612 gets that, too, and INITRD612, where 6.12 is
# to be had.

STARTED=			# every process to end with the scenario
AGENT_SECONDS=${AGENT_SECONDS:-60}

note() {
	echo "-- $*"
}

fail() {
	echo "FAILED: $*"
	exit 1
}

# Is it a child of this shell? Its number may belong to another by now.
is_ours() {
	while read -r _key _value; do
		case $_key$_value in
		PPid:$$) return 0 ;;
		esac
	done <"/proc/$1/status"
	return 1
} 2>/dev/null

# Whatever a scenario has started ends with it, by pid.
end_started() {
	status=$?
	trap - EXIT
	for pid in $STARTED; do
		! is_ours "$pid" || kill "$pid" 2>/dev/null || :
	done
	exit "$status"
}
trap end_started EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# wait_for SECONDS COMMAND...: repeats the command until it succeeds.
wait_for() {
	_tries=$(($1 * 5))
	shift
	until "$@"; do
		_tries=$((_tries - 1))
		[ "$_tries" -gt 0 ] || return 1
		sleep 0.2
	done
}

# A child that has ended but was not waited for is gone, too. (No process is
# started for this: in the lab that costs 20 ms of the only vCPU. One line is
# read, and all of it: what a shell has read ahead it gives back by seeking, which
# fails when the process goes meanwhile, and the next "read" gets the rest.)
gone() {
	read -r _stat <"/proc/$1/stat" || return 0
	case ${_stat##*") "} in
	Z* | X*) return 0 ;;
	esac
	return 1
} 2>/dev/null

uptime_seconds() {
	read -r _uptime _ </proc/uptime
	_uptime=${_uptime%.*}
}

# start_vm NAME ARGS...: runs a VM with control socket NAME.sock and serial
# socket NAME.serial; its pid is then in NAME.pid, its log in $OUT/NAME.log.
start_vm() {
	_name=$1
	shift
	"$AEROSTAT" run --control "$_name.sock" --serial "unix:$_name.serial" \
		"$@" >"$OUT/$_name.log" 2>&1 &
	_pid=$!
	STARTED="$STARTED $_pid"
	echo "$_pid" >"$_name.pid"
	wait_for 20 vm_listens_or_ended "$_name" ||
		fail "$_name has no sockets after 20 s"
	if gone "$_pid"; then
		tail -n 5 "$OUT/$_name.log"
		fail "$_name ended at its start"
	fi
	attach_console "$_name.serial"
}

vm_listens_or_ended() {
	{ [ -S "$1.sock" ] && [ -S "$1.serial" ]; } || gone "$(cat "$1.pid")"
}

# end_of_vm NAME SECONDS: waits for its end, returns its exit status; 124 if it
# runs on.
end_of_vm() {
	wait_for "$2" gone "$(cat "$1.pid")" || return 124
	wait "$(cat "$1.pid")"
}

# One connection per serial socket stays open for good: what the guest says goes
# to $OUT/NAME.console, what is written to the pipe SOCK.in goes to the guest.
attach_console() {
	if [ -e "$1.pump" ]; then
		read -r _pump <"$1.pump"
		gone "$_pump" || return 0
	fi
	wait_for 20 test -S "$1" || return 1
	[ -p "$1.in" ] || mkfifo "$1.in"
	: >>"$(console_of "$1")"
	# Opened for reading and writing, the pipe has no end of file.
	socat "UNIX-CONNECT:$1" STDIO \
		0<>"$1.in" >>"$(console_of "$1")" 2>/dev/null &
	_pump=$!
	echo "$_pump" >"$1.pump"
	STARTED="$STARTED $_pump"
}

console_of() {
	_file=${1##*/}
	echo "$OUT/${_file%.serial}.console"
}

# agent SOCK COMMAND...: has the guest's agent obey one command and prints its
# reply. The tag tells this reply from that of a command given up earlier.
# AGENT_SECONDS is the time limit. Looks less and less often: a look takes CPU
# time from the guest.
agent() {
	_socket=$1
	shift
	attach_console "$_socket" || { echo "nobody listens at $_socket"; return 1; }
	_console=$(console_of "$_socket")
	# Not a counter: two subshells would count to the same number.
	read -r _tag </proc/sys/kernel/random/uuid
	_tag=${_tag%%-*}
	printf '#%s %s\n' "$_tag" "$*" 1<>"$_socket.in"
	uptime_seconds
	_last=$((_uptime + AGENT_SECONDS))
	for _pause in 0.05 0.1 0.2 0.3 0.5 $(seq "$AGENT_SECONDS"); do
		_ended=no
		! gone "$_pump" || _ended=yes # what it left is still read
		_reply=$(agent_reply "$_console" "$_tag")
		case $_reply in
		*"
ok")
			printf '%s\n' "$_reply" | sed -e 1d -e '$d'
			return 0
			;;
		*"
error "*)
			printf '%s\n' "$_reply" | sed -e 1d
			return 1
			;;
		esac
		uptime_seconds
		if [ "$_ended" = yes ] || [ "$_uptime" -ge "$_last" ]; then
			break
		fi
		case $_pause in
		0.*) sleep "$_pause" ;;
		*) sleep 1 ;;
		esac
	done
	echo "no reply to '$*'"
	return 1
}

agent_reply() {
	sed -n "/^@ begin $2\$/,/^@ \(ok\|error .*\)\$/s/^@ //p" "$1"
}

# agent_ready SOCK [SECONDS]: waits until the guest has booted into the agent.
# Should its greeting be lost, a ping now and then finds it.
agent_ready() {
	attach_console "$1" || return 1
	uptime_seconds
	_until=$((_uptime + ${2:-90}))
	_looks=0
	until grep -q '^@ agent ready' "$(console_of "$1")"; do
		uptime_seconds
		if gone "$_pump" || [ "$_uptime" -ge "$_until" ]; then
			return 1
		fi
		_looks=$((_looks + 1))
		# A bare guest greets before anybody listens.
		if [ "$_looks" = 1 ] || [ $((_looks % 20)) -eq 0 ]; then
			agent_pings "$1" && return 0
		fi
		sleep 0.5
	done
	agent "$1" ping >/dev/null
}

agent_pings() (
	AGENT_SECONDS=2
	agent "$1" ping >/dev/null
)

# mem_in_use SOCK RAM_KB: what the guest does not hold free, in kB.
mem_in_use() {
	_free=$(agent "$1" meminfo | sed -n 's/^MemFree //p')
	[ -n "$_free" ] && echo $(($2 - _free))
}

# pass MESSAGE: one more thing was shown; tests/check.py counts these lines.
pass() {
	echo "ok - $*"
}

# skip MESSAGE: this could not be shown here, and why.
skip() {
	echo "skip - $*"
}

# move FROM TO [OPTION...]: the guest of FROM goes to a new process TO, by a
# Unix socket or by what MOVE_URI says. Leaves $OUT/TO.json.
move() {
	_from=$1
	_to=$2
	shift 2
	_uri=${MOVE_URI:-unix:$_to.move}
	start_vm "$_to" --incoming "$_uri"
	"$AEROSTAT" migrate --control "$_from.sock" --json "$@" "$_uri" \
		>"$OUT/$_to.json" 2>"$OUT/$_to.err" || {
		cat "$OUT/$_to.err" "$OUT/$_to.log"
		fail "the move from $_from to $_to failed"
	}
	end_of_vm "$_from" 20 || fail "$_from did not end with status 0"
	[ "$(figure "$_to" .bytes_sent)" = "$(figure "$_to" .bytes_received)" ] ||
		fail "bytes sent and received differ"
}

# figure NAME FILTER: of the move to NAME.
figure() {
	jq -r "$2" "$OUT/$1.json"
}

# state VM: in QMP's word.
state() {
	"$AEROSTAT" status --control "$1.sock" --json | jq -r .state
}

# rss VM: bytes of guest memory resident.
rss() {
	"$AEROSTAT" status --control "$1.sock" --json | jq -r .rss_bytes
}

# memory_intact VM: the guest looks at every word it holds.
memory_intact() {
	agent "$1.serial" check >"$OUT/$1.check" ||
		fail "memory of $1 differs: $(cat "$OUT/$1.check")"
}

# stock_kernel VERSION: sets stock_kernel and stock_initrd; status 1 where there
# is no such kernel.
stock_kernel() {
	case $1 in
	6.1)
		stock_kernel=$KERNEL
		stock_initrd=$INITRD
		;;
	6.12)
		stock_kernel=${KERNEL612:-}
		stock_initrd=${INITRD612:-}
		;;
	generic) # of 6.1, with more for debugging
		stock_kernel=${KERNELGENERIC:-}
		stock_initrd=${INITRDGENERIC:-}
		;;
	*) fail "no such kernel: $1" ;;
	esac
	[ -n "$stock_kernel" ]
}

# balloon_of VM FILTER: of its balloon's status.
balloon_of() {
	"$AEROSTAT" status --control "$1.sock" --json | jq -r ".balloon | $2"
}

# negotiated VM FEATURE
negotiated() {
	[ "$(balloon_of "$1" ".negotiated | index(\"$2\") != null")" = true ]
}

# reporting_gives_back VM RAM_KB: looks every 2 s until what is resident is at
# most 1.15 times what the guest has in use; 120 s are the bar. Leaves $resident
# and $used (bytes), $took (seconds).
reporting_gives_back() {
	used=$(mem_in_use "$1.serial" "$2") || fail "no meminfo from $1"
	uptime_seconds
	_start=$_uptime
	_seen=
	while resident=$(rss "$1"); do
		_seen="$_seen $((resident >> 20))"
		[ $((resident * 100)) -gt $((used * 1024 * 115)) ] || break
		uptime_seconds
		[ $((_uptime - _start)) -lt 120 ] || break
		sleep 2
	done
	uptime_seconds
	took=$((_uptime - _start))
	note "resident, every 2 s:$_seen MiB"
	used=$(mem_in_use "$1.serial" "$2") || fail "no meminfo from $1"
	used=$((used * 1024))
	at_most "resident after $took s of reporting, of in use" \
		"$resident" "$used" 115
}

# begin_move FROM TO [OPTION...]: as move, but goes on at once.
begin_move() {
	_from=$1
	_to=$2
	shift 2
	_uri=unix:$_to.move
	start_vm "$_to" --incoming "$_uri"
	"$AEROSTAT" migrate --control "$_from.sock" --json "$@" "$_uri" \
		>"$OUT/$_to.json" 2>"$OUT/$_to.err" &
	MOVER=$!
}

# end_move FROM TO: waits for its end, which is to be a good one.
end_move() {
	wait "$MOVER" || {
		cat "$OUT/$2.err" "$OUT/$2.log"
		fail "the move from $1 to $2 failed"
	}
	end_of_vm "$1" 20 || fail "$1 did not end with status 0"
}

# tell VM COMMAND...: its agent obeys, or the scenario fails. The reply is in
# $OUT/VM.reply.
tell() {
	_vm=$1
	shift
	agent "$_vm.serial" "$@" >"$OUT/$_vm.reply" ||
		fail "$_vm: $*: $(cat "$OUT/$_vm.reply")"
}

# poke VM COMMAND...: the same, without waiting for a reply: the guest may be on
# its way elsewhere by then. Its next reply comes when this is done.
poke() {
	_vm=$1
	shift
	printf '%s\n' "$*" 1<>"$_vm.serial.in"
}

# counter VM KEY: of the bare guest's counters.
counter() {
	agent "$1.serial" counter "$2" | sed -n "s/^$2 //p"
}

# writer_intact VM: the guest looks at every word of its writer's pages.
writer_intact() {
	agent "$1.serial" writer-check >"$OUT/$1.writer" ||
		fail "the writer's pages of $1 differ: $(cat "$OUT/$1.writer")"
}

# qmp VM COMMAND: prints the machine's whole answer to it, a line.
qmp() {
	printf '{"execute":"qmp_capabilities"}\n{"execute":"%s","id":"it"}\n' \
		"$2" | socat -t 5 - "UNIX-CONNECT:$1.sock" 2>/dev/null |
		grep '"id": *"it"'
}

# under_way VM PAGES: the move out of it has sent so many pages.
under_way() {
	_sent=$(qmp "$1" query-migrate | jq -r .return.pages_sent)
	[ "${_sent:-0}" -ge "$2" ]
}

# is NAME A B: A = B.
is() {
	[ "$2" = "$3" ] || fail "$1: $2, not $3"
}

# at_least NAME A B: A >= B.
at_least() {
	[ "$2" -ge "$3" ] || fail "$1: $2 is less than $3"
	pass "$1: $2 is at least $3"
}

# at_most NAME A B PERCENT: A <= B * PERCENT / 100.
at_most() {
	[ $(($2 * 100)) -le $(($3 * $4)) ] ||
		fail "$1: $2 is more than $4 % of $3"
	pass "$1: $2 is at most $4 % of $3"
}

POOL=/proc/sys/vm/nr_hugepages
pool_before=

free_huge_pages() {
	sed -n 's/^HugePages_Free: *//p' /proc/meminfo
}

# The pool is given back as it was found, if nobody else changed it meanwhile.
restore_pool() {
	read -r _now <$POOL
	[ -z "$pool_before" ] || [ "$_now" != "$pool_ours" ] ||
		echo "$pool_before" >$POOL
}

# have_huge_pages N: so many of 2 MiB are free, or are asked of the host until the
# scenario ends. Status 1 when they are not to be had. One scenario at a time has the
# pool; unit tests take the same lock.
have_huge_pages() {
	[ -r $POOL ] || return 1
	exec 8<$POOL
	! command -v flock >/dev/null || flock 8
	_free=$(free_huge_pages)
	[ "${_free:-0}" -lt "$1" ] || return 0
	[ -w $POOL ] || return 1
	read -r pool_before <$POOL
	trap 'status=$?; restore_pool; (exit $status); end_started' EXIT
	pool_ours=$((pool_before + $1))
	echo $pool_ours >$POOL || return 1
	read -r pool_ours <$POOL
	[ "$(free_huge_pages)" -ge "$1" ]
}
