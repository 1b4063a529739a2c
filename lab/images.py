"""Builds what the lab boots: the initramfs of the outer machine (L1), the
initramfs of the stock guest (L2), and the job disk of one run."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
BUILD = os.path.join(TOP, "build")
IMAGES = os.path.join(BUILD, "lab", ".images")
KERNEL = os.path.join(BUILD, "kernel", "vmlinuz")
MODULES = os.path.join(BUILD, "kernel", "modules")
# More kernels for guests: what a scenario calls it, and its folder. scripts/setup.sh
# says so where one is not to be had.
MORE_KERNELS = {"612": "kernel-6.12", "GENERIC": "kernel-generic"}
# Kernels whose headers scripts/setup.sh fetches, too: our own module is built for
# these. "": the guests' first one.
MODULE_KERNELS = {"": "kernel", "612": "kernel-6.12"}
MODULE_SOURCE = os.path.join(TOP, "guest", "linux")
AGENT = os.path.join(TOP, "guest", "agent")

VIRTIO_PCI = ["virtio_ring", "virtio", "virtio_pci_modern_dev",
              "virtio_pci_legacy_dev", "virtio_pci"]
L1_MODULES = VIRTIO_PCI + ["virtio_blk", "irqbypass", "kvm", "kvm-amd"]
L2_MODULES = VIRTIO_PCI + ["virtio_balloon", "loop"]


class ImageError(Exception):
    """What is missing, in one line."""


def tool(name):
    """Where a program is; those of the superuser are not in every PATH."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise ImageError(f"{name} is missing: run scripts/setup.sh")
    return path


def run(command, **more):
    done = subprocess.run(command, capture_output=True, **more)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        raise ImageError(f"{os.path.basename(command[0])}: {why}")
    return done.stdout


def up_to_date(target, inputs, build):
    """Build target unless it was built from inputs as they are now. The new
    file takes its name last, so that two runs may build at the same time."""
    key = hashlib.sha256()
    for path in sorted(inputs) + [__file__]:
        if not os.path.exists(path):
            raise ImageError(f"{path} is missing: run scripts/setup.sh")
        state = os.stat(path)
        key.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    key_file = target + ".key"
    if os.path.exists(target) and os.path.exists(key_file):
        with open(key_file, encoding="ascii") as old:
            if old.read() == key.hexdigest():
                return target
    os.makedirs(os.path.dirname(target), exist_ok=True)
    new = f"{target}.{os.getpid()}"
    build(new)
    os.rename(new, target)
    with open(new, "w", encoding="ascii") as key_out:
        key_out.write(key.hexdigest())
    os.rename(new, key_file)
    return target


def initramfs(target, files, modules):
    """files: {name inside: path outside}; modules: paths, which go to /modules
    and are loaded in this order."""
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(os.path.join(root, "modules"))
        for name, source in files.items():
            inside = os.path.join(root, name)
            os.makedirs(os.path.dirname(inside), exist_ok=True)
            shutil.copyfile(source, inside)
            os.chmod(inside, 0o755)
        for module in modules:
            shutil.copy(module, os.path.join(root, "modules"))
        with open(os.path.join(root, "modules", "order"), "w", encoding="ascii") as order:
            order.write("".join(os.path.basename(module).removesuffix(".ko") + "\n"
                                for module in modules))
        # The programs of the job disk look for their loader here.
        os.mkdir(os.path.join(root, "lib64"))
        os.symlink("/job/lib/ld-linux-x86-64.so.2",
                   os.path.join(root, "lib64", "ld-linux-x86-64.so.2"))
        names = []
        for directory, subdirectories, entries in os.walk(root):
            names += [os.path.relpath(os.path.join(directory, entry), root)
                      for entry in sorted(subdirectories + entries)]
        archive = run([tool("cpio"), "-o", "-H", "newc", "-R", "0:0", "--quiet"],
                      cwd=root, input="\n".join(names).encode())
    with open(target, "wb") as out:
        out.write(archive)


def module_files(names):
    return [os.path.join(MODULES, name + ".ko") for name in names]


def build_l1():
    init = os.path.join(TOP, "lab", "l1-init")
    files = {"init": init, "bin/busybox": tool("busybox")}
    modules = module_files(L1_MODULES)
    return up_to_date(os.path.join(IMAGES, "l1.cpio"), list(files.values()) + modules,
                      lambda target: initramfs(target, files, modules))


def build_agent():
    files = [os.path.join(AGENT, name) for name in sorted(os.listdir(AGENT))]
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-static", "-Wall", "-Wextra",
               "-Wno-unused-parameter", "-Werror"]
    return up_to_date(os.path.join(IMAGES, "agent"), files,
                      lambda target: run(command + [file for file in files
                                                    if file.endswith(".c")] + ["-o", target]))


def build_stock_guest(name, modules, programs=()):
    """programs: of Debian's, with their libraries."""
    files = {"init": build_agent()}
    for program in programs:
        files["bin/" + os.path.basename(program)] = program
        for library in shared_libraries(program):
            files["job/lib/" + os.path.basename(library)] = library
    return up_to_date(os.path.join(IMAGES, name), list(files.values()) + modules,
                      lambda target: initramfs(target, files, modules))


def build_l2():
    return build_stock_guest("l2.cpio", module_files(L2_MODULES))


def modules_of(folder, names):
    """What a kernel has built in has no file; with 6.12 that is most of virtio."""
    paths = [os.path.join(folder, "modules", name + ".ko") for name in names]
    return [path for path in paths if os.path.exists(path)]


def another_kernel(name):
    """A key of MORE_KERNELS. Its kernel and initramfs, or None."""
    folder = os.path.join(BUILD, MORE_KERNELS[name])
    if not os.path.exists(os.path.join(folder, "complete")):
        return None
    initrd = build_stock_guest(f"l2-{MORE_KERNELS[name]}.cpio", modules_of(folder, L2_MODULES))
    return os.path.join(folder, "vmlinuz"), initrd


def module_sources():
    """What "make tree" in guest/linux copies, and a little more."""
    core = os.path.join(TOP, "src", "balloon")
    return ([os.path.join(directory, name)
             for directory in (MODULE_SOURCE, os.path.join(MODULE_SOURCE, "include"), core)
             for name in os.listdir(directory)
             if name.endswith((".c", ".h", "Kbuild", "Makefile")) and not name.endswith(".mod.c")]
            + [os.path.join(TOP, "src", "base", "endian.h")])


def compile_module(target, headers):
    """In a tree of its own, which is what a DKMS package has."""
    with tempfile.TemporaryDirectory() as tree:
        run([tool("make"), "-C", MODULE_SOURCE, "tree", f"TO={tree}"])
        run([tool("make"), "-C", tree, f"KDIR={headers}/build", "W=1",
             "KCFLAGS=-Werror"])
        run([tool("strip"), "--strip-debug", os.path.join(tree, "aerostat_balloon.ko"),
             "-o", target])


def own_modules(name):
    """A key of MODULE_KERNELS. What its guest loads with our module in place of the
    stock driver, or None."""
    folder = os.path.join(BUILD, MODULE_KERNELS[name])
    headers = os.path.join(folder, "headers")
    if not os.path.exists(os.path.join(headers, "complete")):
        return None
    module = up_to_date(os.path.join(IMAGES, MODULE_KERNELS[name], "aerostat_balloon.ko"),
                        module_sources() + [os.path.join(headers, "complete")],
                        lambda target: compile_module(target, headers))
    return modules_of(folder, [stock for stock in L2_MODULES
                               if stock != "virtio_balloon"]) + [module]


def build_module(name):
    """The initramfs of a guest with our module, or None."""
    modules = own_modules(name)
    return modules and build_stock_guest(f"l2-module-{MODULE_KERNELS[name]}.cpio", modules)


def build_stress(driver, name):
    """A guest with stress-ng, and with the driver "STOCK" or "MODULE"; or None."""
    folder = os.path.join(BUILD, MODULE_KERNELS[name])
    if not os.path.exists(os.path.join(folder, "complete")):
        return None
    modules = own_modules(name) if driver == "MODULE" else modules_of(folder, L2_MODULES)
    return modules and build_stock_guest(f"l2-stress-{driver.lower()}-{MODULE_KERNELS[name]}.cpio",
                                         modules, [tool("stress-ng")])


def shared_libraries(program):
    """What ldd names, the loader included; nothing for a static program."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True)
    if "not found" in told.stdout:
        raise ImageError(f"{program}: {told.stdout.strip()}")
    return re.findall(r"(/\S+) \(0x", told.stdout)


# Prints what a program imports, in a process of its own, which has imported nothing
# else; and resource, which os.wait4() imports when first used.
IMPORTED = """
import json, os, resource, runpy, sys
sys.path[0] = os.path.dirname(sys.argv[1])
runpy.run_path(sys.argv[1], run_name="imported")
found = [(getattr(module, "__file__", None), getattr(module, "__cached__", None))
         for module in list(sys.modules.values())]
print(json.dumps(sorted({path for each in found for path in each if path})))
"""


def python_files(program):
    """{name inside: path outside}: a Python program, what it imports of this tree,
    which keeps its place there, and of Python's library, source and compiled. PYTHONHOME
    is to be the root."""
    told = json.loads(run([sys.executable, "-B", "-c", IMPORTED, program]))
    library = sysconfig.get_path("stdlib")
    encodings = os.path.join(library, "encodings")  # imported when first used
    told += [program, os.__file__]
    told += [os.path.join(encodings, name) for name in os.listdir(encodings)]
    files = {}
    for path in filter(os.path.isfile, told):
        if path.startswith(TOP + os.sep):
            files[os.path.relpath(path, TOP)] = path
        elif path.startswith(library + os.sep):
            inside = os.path.join("lib", os.path.basename(library), os.path.relpath(path, library))
            files[inside] = path
        if path.endswith(".so"):
            for needed in shared_libraries(path):
                files["lib/" + os.path.basename(needed)] = needed
    return files


def job_disk(target, programs, files, texts):
    """A raw ext4 disk. programs: paths, put in /bin with their libraries in
    /lib; files: {name inside: path outside}; texts: {name inside: content}."""
    with tempfile.TemporaryDirectory() as root:
        def place(source, name):
            inside = os.path.join(root, name)
            if not os.path.exists(inside):
                os.makedirs(os.path.dirname(inside), exist_ok=True)
                shutil.copy2(source, inside)  # by its time Python knows what it compiled
                os.chmod(inside, 0o755)
        for program in programs:
            place(program, "bin/" + os.path.basename(program))
            for library in shared_libraries(program):
                place(library, "lib/" + os.path.basename(library))
        for name, source in files.items():
            place(source, name)
        for name, content in texts.items():
            with open(os.path.join(root, name), "w", encoding="utf-8") as out:
                out.write(content)
        used = sum(os.path.getsize(os.path.join(directory, entry))
                   for directory, _, entries in os.walk(root) for entry in entries)
        run([tool("mke2fs"), "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0",
             "-d", root, target, f"{used * 11 // 10 // 1024 + 8192}k"])
