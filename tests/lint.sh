#!/bin/sh
# SPDX-License-Identifier: MIT
# Static checks: sizes, sparse, cppcheck. usage: tests/lint.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
bad=0

# Files over 1,000 lines, lines over 100 columns.
for file in $(git ls-files 'src/*.[ch]' 'guest/*.[chS]' 'tests/*.[ch]'); do
	lines=$(wc -l <"$file")
	[ "$lines" -le 1000 ] || { echo "$file: $lines lines"; bad=1; }
	long=$(expand -t8 "$file" | grep -nE '.{101}' | head -n 1)
	[ -z "$long" ] || { echo "$file: line too long: ${long%%:*}"; bad=1; }
done

# A module must not include what is above or beside it.
may_include() {
	case $1 in
	base) echo 'base' ;;
	memory) echo 'base|memory' ;;
	virtio) echo 'base|memory|virtio' ;;
	pci) echo 'base|memory|virtio|pci' ;;
	balloon) echo 'base|memory|virtio|balloon' ;;
	migration) echo 'base|memory|migration' ;;
	kvm) echo 'base|memory|kvm' ;;
	x86) echo 'base|memory|kvm|x86' ;;
	machine) echo 'base|memory|virtio|pci|balloon|migration|kvm|x86|machine' ;;
	qmp) echo 'base|memory|virtio|pci|balloon|migration|kvm|x86|machine|qmp' ;;
	*) echo '.*' ;;
	esac
}
for module in $(ls src); do
	[ -d "src/$module" ] || continue
	wrong=$(grep -rnE '^#include "[a-z0-9]+/' "src/$module" |
		grep -vE "#include \"($(may_include "$module"))/")
	[ -z "$wrong" ] || { echo "$wrong"; bad=1; }
done

if command -v sparse >/dev/null; then
	for file in $(git ls-files 'src/*.c'); do
		found=$(sparse -Isrc -I"$build/src" -D_GNU_SOURCE -std=gnu11 \
			-Wno-decl -Wno-vla -Wno-non-pointer-null -Wbitwise \
			-D__CHECK_ENDIAN__ '-DAEROSTAT_VERSION=""' "$file" 2>&1 |
			grep "^$file" | grep -v -e 'unknown attribute' -e 'note:')
		[ -z "$found" ] || { echo "$found"; bad=1; }
	done
else
	echo "skip - sparse is not installed"
fi

# The module, by the kernel's own rules for sparse, where headers are at hand.
for headers in "$build"/kernel*/headers; do
	[ -e "$headers/complete" ] && command -v sparse >/dev/null || continue
	tree=$(mktemp -d)
	make -s -C guest/linux tree "TO=$tree"
	found=$(make -C "$tree" "KDIR=$PWD/$headers/build" W=1 C=2 2>&1 |
		grep -E 'warning:|error:')
	[ -z "$found" ] || { echo "$headers: $found"; bad=1; }
	rm -rf "$tree"
done

if command -v cppcheck >/dev/null; then
	cppcheck --quiet --enable=warning,portability --inline-suppr \
		--error-exitcode=1 -Isrc --std=c11 -D_GNU_SOURCE \
		--suppress=missingIncludeSystem \
		'-DAEROSTAT_VERSION=""' '-Djson_array_foreach(a,i,v)=for(;;)' \
		'-Djson_object_foreach(o,k,v)=for(;;)' src || bad=1
else
	echo "skip - cppcheck is not installed"
fi
[ "$bad" = 0 ] && echo "lint: clean"
exit $bad
