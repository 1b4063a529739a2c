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
wait_for 20 grep -q '^@ agent ready' log || fail "nothing in the file"
[ "$(stat -c %a log)" = 600 ] || fail "the file can be read by others"
[ "$(stat -c %a vm.sock)" = 600 ] || fail "the control socket is open to others"
pass "a guest writes to a file of mode 600; the control socket has 600, too"
kill -TERM "$(cat vm.pid)"
end_of_vm vm 10 || fail "SIGTERM: status $?"
[ ! -e vm.sock ] || fail "SIGTERM left the control socket"
pass "SIGTERM ends it in order"
