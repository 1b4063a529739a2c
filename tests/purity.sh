#!/bin/sh
# SPDX-License-Identifier: MIT
# The core does no I/O, takes no clock and allocates nothing: all that its
# archives call is mem*() and what they define themselves.
#
# usage: purity.sh ARCHIVE...
# Prints each finding; exits 1 when there is one, 2 on wrong usage.
set -eu

[ $# -gt 0 ] || { echo "usage: $0 ARCHIVE..." >&2; exit 2; }

found=0
for archive in "$@"; do
	[ -r "$archive" ] || { echo "$0: $archive: not there" >&2; exit 2; }
	symbols=$(nm "$archive")
	# "ADDRESS TYPE NAME" for what is defined, "U NAME" for what is not.
	alien=$(printf '%s\n' "$symbols" | awk '
		$1 == "U" || $1 == "w" { undefined[$2] = 1 }
		NF == 3 { defined[$3] = 1 }
		END {
			allowed["memcpy"] = allowed["memset"] = 1
			allowed["memmove"] = allowed["memcmp"] = 1
			# No call: how position-independent code of x86 finds
			# a table of addresses.
			allowed["_GLOBAL_OFFSET_TABLE_"] = 1
			for (s in undefined)
				if (!(s in defined) && !(s in allowed))
					print s
		}' | sort)
	for symbol in $alien; do
		echo "$archive: calls $symbol"
		found=1
	done
done
exit $found
