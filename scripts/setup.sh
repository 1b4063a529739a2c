#!/bin/sh
# Installs what build, check and demo need on Debian 12, and fetches the kernel
# that the guests and the lab boot, and 6.12 as a second one for guests; of both
# the headers, for the guests' own module (guest/linux). Quick when nothing is
# missing.
#
#   scripts/setup.sh [--newer-qemu]
#
# --newer-qemu: QEMU from bookworm-backports instead of bookworm's 7.2, where
# the machine's mirror carries it. Every check works with either.

set -eu

packages="meson ninja-build pkg-config gcc clang libclang-rt-14-dev
	libsystemd-dev libjansson-dev libxxhash-dev libcmocka-dev scdoc
	acpica-tools sparse cppcheck qemu-system-x86 seabios busybox-static
	e2fsprogs cpio jq socat xz-utils python3 git spin stress-ng"
modules="virtio virtio_ring virtio_pci virtio_pci_modern_dev
	virtio_pci_legacy_dev virtio_blk virtio_balloon loop
	irqbypass kvm kvm-amd kvm-intel"

top=$(cd "$(dirname "$0")/.." && pwd)
kernel_dir=$top/build/kernel
kernel_generic_dir=$top/build/kernel-generic
kernel_612_dir=$top/build/kernel-6.12
log=$top/build/setup.log
lists_fresh=no

say() {
	echo "setup: $*"
}

die() {
	echo "setup: $*" >&2
	exit 1
}

# Everything long goes to the log; its end is shown only on failure.
quietly() {
	if ! "$@" >>"$log" 2>&1; then
		tail -n 3 "$log" >&2
		return 1
	fi
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		DEBIAN_FRONTEND=noninteractive "$@"
	elif command -v sudo >/dev/null; then
		sudo env DEBIAN_FRONTEND=noninteractive "$@"
	else
		echo "neither root nor sudo, cannot run: $*"
		return 1
	fi
}

refresh_lists() {
	[ "$lists_fresh" = no ] || return 0
	say "reading the package lists"
	quietly as_root apt-get update ||
		say "not all package lists could be read, going on with those at hand"
	lists_fresh=yes
}

# One dpkg-query for all; it names the unknown ones on stderr, which is fine.
missing_packages() {
	# shellcheck disable=SC2086
	installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
		sed -n 's/^installed //p') || true
	for package in $packages; do
		case "
$installed
" in
		*"
$package
"*) ;;
		*) printf '%s ' "$package" ;;
		esac
	done
}

install_packages() {
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0
	refresh_lists
	say "installing $missing"
	# shellcheck disable=SC2086
	quietly as_root apt-get install -y --no-install-recommends $missing ||
		die "apt-get install failed (log: $log)"
}

# A source list for backports, made from the machine's own: the address of
# whatever mirror serves bookworm, with the suite changed. It is used for this
# one installation only; the machine's sources stay as they are.
backports_list() {
	{
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
			sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm .*/\1\2/p'
		cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk '
			/^#/ { next }
			/^$/ { uri = ""; key = ""; next }
			/^URIs:/ { uri = $2 }
			/^Signed-By:/ { key = $2 }
			/^Suites:/ && / bookworm( |$)/ { ours = 1 }
			uri && key && ours { print "[signed-by=" key "] " uri; ours = 0 }'
	} | sed -n '1s/.*/deb & bookworm-backports main/p'
}

newer_qemu() {
	case $(dpkg-query -W -f='${Version}' qemu-system-x86 2>/dev/null) in
	*~bpo12*) return 0 ;;
	esac
	list=/etc/apt/sources.list.d/aerostat-setup-$$.list
	entry=$(backports_list)
	if [ -z "$entry" ]; then
		say "no mirror of bookworm in the apt sources: keeping bookworm's QEMU"
		return 0
	fi
	say "installing QEMU from bookworm-backports"
	trap 'as_root rm -f "$list"' EXIT
	echo "$entry" | as_root tee "$list" >/dev/null
	if quietly as_root apt-get update &&
		quietly as_root apt-get install -y --no-install-recommends \
			-t bookworm-backports qemu-system-x86; then
		say "QEMU is now $(dpkg-query -W -f='${Version}' qemu-system-x86)"
	else
		say "backports not available: keeping bookworm's QEMU"
	fi
}

# Only the files of the kernel package are wanted: no boot loader, no initramfs
# hooks, so it is unpacked, not installed.
#
# unpack_kernel DIRECTORY PACKAGE [APT_OPTION...]: status 1, with the reason in
# $why, when it cannot be had.
unpack_kernel() {
	directory=$1
	new=$1.new
	package=$2
	shift 2
	say "fetching $package"
	rm -rf "$new"
	mkdir -p "$new/download" "$new/modules"
	why="cannot download $package"
	(cd "$new/download" && quietly apt-get "$@" download "$package") || return 1
	why="cannot unpack $package"
	quietly dpkg -x "$new"/download/*.deb "$new/download/root" || return 1
	mv "$new"/download/root/boot/vmlinuz-* "$new/vmlinuz"
	for module in $modules; do
		found=$(find "$new/download/root" -name "$module.ko*")
		case $found in
		*.ko) mv "$found" "$new/modules/" ;;
		*.ko.xz) xz -dc "$found" >"$new/modules/$module.ko" ;;
		*) # 6.12 has the core of virtio built in
			why="$package has no $module.ko"
			grep -q "/$module.ko\$" "$new"/download/root/lib/modules/*/modules.builtin ||
				return 1
			;;
		esac
	done
	rm -rf "$new/download"
	echo "$modules" >"$new/modules.wanted"
	echo "$package" >"$new/complete"
	rm -rf "$directory"
	mv "$new" "$directory"
}

# A kernel unpacked when fewer modules were wanted is unpacked again.
kernel_complete() {
	[ -e "$1/complete" ] && echo "$modules" | cmp -s - "$1/modules.wanted"
}

# The headers of an unpacked kernel, unpacked into its folder, where KDIR is
# headers/build. They find each other by relative names, but for one Makefile.
#
# unpack_headers DIRECTORY [APT_OPTION...]: status 1 when they cannot be had.
unpack_headers() {
	kernel=$(cat "$1/complete")
	headers=$1/headers
	new=$headers.new
	shift
	package=linux-headers-${kernel#linux-image-}
	say "fetching $package"
	rm -rf "$new"
	mkdir -p "$new/download"
	more=$(apt-cache "$@" depends "$package" 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-headers-.*-common\|linux-kbuild-.*\)$/\1/p')
	# shellcheck disable=SC2086
	(cd "$new/download" && quietly apt-get "$@" download "$package" $more) ||
		return 1
	for file in "$new"/download/*.deb; do
		quietly dpkg -x "$file" "$new" || return 1
	done
	sed -i "s|/usr/src/|$headers/usr/src/|" "$new/usr/src/$package/Makefile"
	ln -s "usr/src/$package" "$new/build"
	rm -rf "$new/download" "$headers"
	echo "$kernel" >"$new/complete"
	mv "$new" "$headers"
}

headers_complete() {
	cmp -s "$1/complete" "$1/headers/complete"
}

# no_headers DIRECTORY: whether they are wanted; who has none is asked once a day.
no_headers() {
	[ -e "$1/complete" ] && ! headers_complete "$1" &&
		[ -z "$(find "$1/headers/absent" -mtime -1 2>/dev/null)" ]
}

note_no_headers() {
	rm -rf "$1/headers" "$1/headers.new"
	mkdir -p "$1/headers"
	touch "$1/headers/absent"
}

fetch_headers() {
	no_headers "$kernel_dir" || return 0
	refresh_lists
	unpack_headers "$kernel_dir" || note_no_headers "$kernel_dir"
}

fetch_kernel() {
	! kernel_complete "$kernel_dir" || return 0
	refresh_lists
	package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
	[ -n "$package" ] || die "no linux-image-cloud-amd64 in the package lists"
	unpack_kernel "$kernel_dir" "$package" || die "$why (log: $log)"
}

# Debian's other flavour, built with more for debugging: it can poison its pages.
fetch_kernel_generic() {
	! kernel_complete "$kernel_generic_dir" || return 0
	refresh_lists
	package=$(apt-cache depends linux-image-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
	[ -n "$package" ] || die "no linux-image-amd64 in the package lists"
	unpack_kernel "$kernel_generic_dir" "$package" || die "$why (log: $log)"
}

# newest_612 [APT_OPTION...]: the name of the newest such package, or nothing.
newest_612() {
	apt-cache "$@" pkgnames linux-image-6.12. 2>/dev/null |
		grep -E '^linux-image-6\.12\.[0-9][^-]*-cloud-amd64$' |
		sort -V | tail -n 1
}

# with_backports COMMAND: runs it with APT_OPTIONs that have it look in
# bookworm-backports: the machine's own apt knows nothing of it.
with_backports() {
	entry=$(backports_list)
	[ -n "$entry" ] || return 1
	command=$1
	apt_dir=$(mktemp -d)
	mkdir -p "$apt_dir/lists/partial"
	echo "$entry" >"$apt_dir/sources.list"
	set -- -o "Dir::Etc::SourceList=$apt_dir/sources.list" \
		-o Dir::Etc::SourceParts=/dev/null \
		-o "Dir::State::Lists=$apt_dir/lists"
	say "looking for 6.12 in bookworm-backports"
	status=0
	{ quietly apt-get "$@" update && "$command" "$@"; } || status=1
	rm -rf "$apt_dir"
	return "$status"
}

# kernel_612 [APT_OPTION...]
kernel_612() {
	package=$(newest_612 "$@")
	[ -n "$package" ] && unpack_kernel "$kernel_612_dir" "$package" "$@"
}

# headers_612 [APT_OPTION...]
headers_612() {
	unpack_headers "$kernel_612_dir" "$@"
}

# The security suite carries it, or backports does, or neither: then the
# scenarios that want it say so, and are skipped. Who has none is asked once a
# day, not each time.
fetch_kernel_612() {
	! kernel_complete "$kernel_612_dir" || return 0
	why=
	[ -z "$(find "$kernel_612_dir/absent" -mtime -1 2>/dev/null)" ] || return 0
	refresh_lists
	kernel_612 || with_backports kernel_612 || {
		rm -rf "$kernel_612_dir" "$kernel_612_dir.new"
		mkdir -p "$kernel_612_dir"
		echo "${why:-no mirror has it}" >"$kernel_612_dir/absent"
	}
}

fetch_headers_612() {
	no_headers "$kernel_612_dir" || return 0
	refresh_lists
	headers_612 || with_backports headers_612 ||
		note_no_headers "$kernel_612_dir"
}

[ "$(uname -m)" = x86_64 ] || die "x86-64 only"
command -v apt-get >/dev/null || die "no apt-get here: Debian 12 is needed"
mkdir -p "$top/build"
case ${1:-} in
'' | --newer-qemu) ;;
*) die "usage: scripts/setup.sh [--newer-qemu]" ;;
esac

install_packages
[ "${1:-}" != --newer-qemu ] || newer_qemu
fetch_kernel
fetch_kernel_generic
fetch_kernel_612
fetch_headers
fetch_headers_612
ready="guest kernels $(sed 's/^linux-image-//' "$kernel_dir/complete")"
ready="$ready, $(sed 's/^linux-image-//' "$kernel_generic_dir/complete")"
if [ -e "$kernel_612_dir/complete" ]; then
	ready="$ready, $(sed 's/^linux-image-//' "$kernel_612_dir/complete")"
else
	say "no 6.12 kernel ($(cat "$kernel_612_dir/absent")): scenarios with it are skipped"
fi
for directory in "$kernel_dir" "$kernel_612_dir"; do
	[ ! -e "$directory/complete" ] || headers_complete "$directory" ||
		say "no headers of $(cat "$directory/complete"): scenarios with our module on it are skipped"
done
say "ready, $ready"
