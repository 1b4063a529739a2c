#!/bin/sh
# Installs what build, check and demo need on Debian 12, and fetches the kernel
# that the guests and the lab boot. Quick when nothing is missing.
#
#   scripts/setup.sh [--newer-qemu]
#
# --newer-qemu: QEMU from bookworm-backports instead of bookworm's 7.2, where
# the machine's mirror carries it. Every check works with either.

set -eu

packages="meson ninja-build pkg-config gcc clang libclang-rt-14-dev
	libsystemd-dev libjansson-dev libxxhash-dev libcmocka-dev scdoc
	acpica-tools sparse cppcheck qemu-system-x86 seabios busybox-static
	e2fsprogs cpio jq socat python3 git"
modules="virtio virtio_ring virtio_pci virtio_pci_modern_dev
	virtio_pci_legacy_dev virtio_blk virtio_balloon
	irqbypass kvm kvm-amd kvm-intel"

top=$(cd "$(dirname "$0")/.." && pwd)
kernel_dir=$top/build/kernel
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
fetch_kernel() {
	[ ! -e "$kernel_dir/complete" ] || return 0
	refresh_lists
	package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
	[ -n "$package" ] || die "no linux-image-cloud-amd64 in the package lists"
	say "fetching $package"
	rm -rf "$kernel_dir"
	mkdir -p "$kernel_dir/download" "$kernel_dir/modules"
	(cd "$kernel_dir/download" && quietly apt-get download "$package") ||
		die "cannot download $package (log: $log)"
	quietly dpkg -x "$kernel_dir"/download/*.deb "$kernel_dir/download/root" ||
		die "cannot unpack $package (log: $log)"
	mv "$kernel_dir"/download/root/boot/vmlinuz-* "$kernel_dir/vmlinuz"
	for module in $modules; do
		find "$kernel_dir/download/root" -name "$module.ko" \
			-exec mv {} "$kernel_dir/modules/" \;
		[ -e "$kernel_dir/modules/$module.ko" ] || die "$package has no $module.ko"
	done
	rm -rf "$kernel_dir/download"
	echo "$package" >"$kernel_dir/complete"
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
say "ready, guest kernel $(sed 's/^linux-image-//' "$kernel_dir/complete")"
