#!/bin/sh
# Wrong usage, without KVM: one clear line, exit status 2 (or 1), nothing left.
. "${0%/*}/lib.sh"

work=$(mktemp -d) || fail "no directory"
cd "$work" || fail "no directory"

# refuses STATUS WORD ARGS...: ends with that status and says WORD on one line
# of stderr, and nothing on stdout.
refuses() {
	_status=$1
	_word=$2
	shift 2
	_got=0
	"$AEROSTAT" "$@" >stdout 2>stderr </dev/null || _got=$?
	[ "$_got" = "$_status" ] ||
		fail "aerostat $*: status $_got instead of $_status: $(cat stderr)"
	[ "$(wc -l <stderr)" = 1 ] || fail "aerostat $*: not one line: $(cat stderr)"
	[ ! -s stdout ] || fail "aerostat $*: it wrote to stdout"
	grep -q -e "$_word" stderr || fail "aerostat $*: no '$_word' in: $(cat stderr)"
	echo "ok - aerostat $*: $(cat stderr)"
}

K=--kernel=/bin/true
refuses 2 'fly' fly
refuses 2 '--kernel' run --memory 64M
refuses 2 '--memory' run $K
refuses 2 "'12x'" run $K --memory 12x
refuses 2 "''" run $K --memory ''
refuses 2 "'-1'" run $K --memory=-1
refuses 2 '31M' run $K --memory 31M
refuses 2 '2T' run $K --memory 2T
refuses 2 '99999999999999999999' run $K --memory 99999999999999999999
refuses 2 '33000001' run $K --memory 33000001
refuses 2 '--cpus 0' run $K --memory 64M --cpus 0
refuses 2 '--cpus 33' run $K --memory 64M --cpus 33
refuses 2 '--cpus x' run $K --memory 64M --cpus x
refuses 2 "'speed'" run $K --memory 64M --balloon=speed=1
refuses 2 "'speed'" run $K --memory 64M --balloon speed=1
refuses 2 "'pigeon'" run $K --memory 64M pigeon
refuses 2 'hinting=maybe' run $K --memory 64M --balloon=hinting=maybe
refuses 2 'protocol=v99: it can be standard, command-register or v17' \
	run $K --memory 64M --balloon=protocol=v99
refuses 2 'numbering=odd' run $K --memory 64M --balloon=numbering=odd
refuses 2 'protocol=' run $K --memory 64M --balloon=protocol
for key in reporting stats poison deflate-on-oom must-tell-host page-ranges populate; do
	refuses 2 "$key=maybe" run $K --memory 64M "--balloon=$key=maybe"
	refuses 2 "$key=: it can be on or off" run $K --memory 64M "--balloon=$key"
done
refuses 2 'target, hinting, reporting, stats, poison, deflate-on-oom, must-tell-host, page-ranges, populate, numbering, protocol' \
	run $K --memory 64M --balloon=speed=1
refuses 2 'it needs hinting=on' run $K --memory 64M \
	--balloon=protocol=command-register,hinting=off
refuses 2 'it needs hinting=on' run $K --memory 64M \
	--balloon=hinting=off --balloon=protocol=command-register
refuses 2 'protocol=v17 .* it needs hinting=on' run $K --memory 64M \
	--balloon=protocol=v17,hinting=off
for target in 0 4K 16777215 65M; do
	refuses 2 "target=$target: the guest cannot keep .*at least 16777216 (16 MiB), and has 67108864" \
		run $K --memory 64M "--balloon=target=$target"
done
refuses 2 'target=65M' run "--balloon=target=65M" $K --memory 64M
refuses 2 'target=65M' run $K --memory 64M --balloon target=65M
refuses 2 "''" run $K --memory 64M --balloon=target
for target in 16M 64M; do
	refuses 1 'pigeon' run $K --memory 64M --serial pigeon \
		"--balloon=target=$target"
done
refuses 1 'pigeon' run $K --memory 64M --serial pigeon --balloon=target=4K \
	--no-balloon
refuses 2 'anonymous, memfd or hugetlb' run $K --memory 64M --backing feathers
refuses 2 "--backing : " run $K --memory 64M --backing=
refuses 2 "--backing pigeon" run --incoming unix:x --backing pigeon
for option in --memory=64M --cpus=1 --append=x --name=x --balloon --no-balloon \
	--balloon=hinting=off; do
	name=${option%%=*}
	refuses 2 "run: $name cannot be .* --incoming: it comes with the guest" \
		run --incoming unix:x $option
	refuses 2 "run: $name cannot be .* --incoming: it comes with the guest" \
		run $option --incoming unix:x
done
refuses 2 'run: --balloon cannot' run --incoming unix:x --balloon target=64M
refuses 2 'run: --memory cannot' run --incoming unix:x --memory 64M --cpus 2
refuses 1 "'pigeon'" run $K --memory 64M --serial pigeon
refuses 1 '/nowhere/x' run $K --memory 64M --serial file:/nowhere/x
refuses 1 "'pigeon:x'" run --incoming pigeon:x --serial none
refuses 1 'HOST:PORT' run --incoming tcp:x --serial none
refuses 1 'fd:77' run --incoming fd:77 --serial none
refuses 1 'fd:77' run --incoming fd:77 --serial none $K --initrd /bin/true \
	--backing memfd --paused
refuses 2 '--control' status
refuses 2 '--control' migrate unix:x
refuses 2 'URI' migrate --control none.sock
refuses 1 'none.sock' status --control none.sock
refuses 1 'none.sock' migrate --control none.sock unix:x
refuses 1 'none.sock' balloon --control none.sock 64M
refuses 2 "'lots'" balloon --control none.sock lots
refuses 2 '--downtime' migrate --control none.sock --downtime x unix:x
refuses 2 '--control' stats
refuses 2 '--control' reset
refuses 1 'none.sock' stats --control none.sock
refuses 1 'none.sock' stats --control none.sock --watch 1 --json
refuses 1 'none.sock' reset --control none.sock
for seconds in 0 0.05 3600.5 -1 x 1x nan 1e9 ''; do
	refuses 2 "--watch $seconds: .*from 0.1 to 3600" \
		stats --control none.sock "--watch=$seconds"
done

# A socket in use, and a file that is no socket.
: >plain
refuses 1 'not a socket' run $K --memory 64M --serial unix:plain
socat UNIX-LISTEN:busy,fork EXEC:cat &
STARTED="$STARTED $!"
wait_for 5 test -S busy
refuses 1 'in use' run --incoming unix:busy --serial none
[ -S busy ] && [ -f plain ] || fail "somebody else's files are gone"

left=$(ls | grep -v -e '^std' -e '^plain$' -e '^busy$')
[ -z "$left" ] || fail "left behind: $left"
echo "ok - nothing is left behind"

"$AEROSTAT" --help | grep -q 'aerostat COMMAND' || fail "--help"
for command in run migrate balloon status stats pause resume reset quit; do
	"$AEROSTAT" --help | grep -q "^  $command " || fail "--help: no $command"
	"$AEROSTAT" $command --help | grep -q "aerostat $command" ||
		fail "$command --help"
done
echo "ok - --help of every command"
rm -rf "$work"
