#!/bin/sh
# The serial port on a terminal, in a file, and nowhere.
. "${0%/*}/lib.sh"

[ -n "${BARE:-}" ] || fail "no bare guest"

# A terminal: what is typed reaches the guest, Ctrl-A x ends the machine, and
# the terminal is as it was.
cat >on-a-terminal <<END
#!/bin/sh
before=\$(stty -g)
"$AEROSTAT" run --kernel "$BARE" --memory 64M
status=\$?
[ "\$(stty -g)" = "\$before" ] && echo "terminal restored, status \$status"
END
chmod +x on-a-terminal
mkfifo typed
socat - EXEC:./on-a-terminal,pty,setsid,ctty,stderr <typed >"$OUT/terminal" &
terminal=$!
exec 5>typed
wait_for 30 grep -q '^@ agent ready' "$OUT/terminal" ||
	fail "no greeting: $(cat "$OUT/terminal")"
printf 'ping\n' >&5
wait_for 10 grep -q '^@ ok' "$OUT/terminal" || fail "no reply on the terminal"
pass "a guest on a terminal answers"
printf '\001x' >&5
wait_for 10 grep -q 'terminal restored, status 0' "$OUT/terminal" ||
	fail "Ctrl-A x: $(tail -n 3 "$OUT/terminal")"
pass "Ctrl-A x ends it with status 0 and restores the terminal"
exec 5>&-
wait "$terminal"

"$AEROSTAT" run --kernel "$BARE" --memory 64M --serial file:log \
	--control vm.sock &
STARTED="$STARTED $!"
echo $! >vm.pid
wait_for 20 grep -qs "^@ agent ready" log || fail "nothing in the file"
[ "$(stat -c %a log)" = 600 ] || fail "the file can be read by others"
[ "$(stat -c %a vm.sock)" = 600 ] || fail "the control socket is open to others"
pass "a guest writes to a file of mode 600; the control socket has 600, too"
kill -TERM "$(cat vm.pid)"
end_of_vm vm 10 || fail "SIGTERM: status $?"
[ ! -e vm.sock ] || fail "SIGTERM left the control socket"
pass "SIGTERM ends it in order"

# A reader that stands still for a while loses nothing: 64 KiB wait for it.
start_vm talk --kernel "$BARE" --memory 64M
agent_ready talk.serial || fail "no agent"
agent talk.serial beat 1 >/dev/null || fail "beat"
read -r reader <talk.serial.pump
kill -STOP "$reader"
sleep 2
kill -CONT "$reader"
sleep 1
agent talk.serial beat 0 >/dev/null || fail "beat off"
sed -n 's/^@ beat //p' "$OUT/talk.console" >beats
missed=$(awk 'NR > 1 && $1 != last + 1 { n++ } { last = $1 } END { print n + 0 }' beats)
count=$(wc -l <beats)
[ "$count" -ge 500 ] || fail "$count beats only"
[ "$missed" = 0 ] || fail "$missed gaps in $count beats"
pass "a reader that stood still for 2 s got all of $count lines"

# What is typed before the guest has come in waits for it.
start_vm there --incoming unix:there.move
for i in $(seq 200); do
	echo ping
done 1<>there.serial.in
sleep 1
! gone "$(cat there.serial.pump)" || fail "the reader was sent away"
"$AEROSTAT" migrate --control talk.sock unix:there.move >/dev/null ||
	fail "the move"
answered() {
	[ "$(grep -c '^@ ok' "$OUT/there.console")" -ge 200 ]
}
wait_for 20 answered || fail "$(grep -c '^@ ok' "$OUT/there.console") replies"
pass "200 lines that were typed before the guest came in are answered"
agent there.serial poweroff >/dev/null
end_of_vm there 10 || fail "power-off: status $?"
