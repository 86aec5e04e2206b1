"""Executes a program behind a seccomp filter that refuses calls: filter.py CALL=ERROR... -- PROGRAM ARGUMENT..."""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {
        "clone": 56, "clone3": 435, "close_range": 436, "getrandom": 318, "landlock_create_ruleset": 444,
        "memfd_secret": 447, "mlock": 149, "prctl": 157, "unshare": 272,
    },
    "aarch64": {
        "clone": 220, "clone3": 435, "close_range": 436, "getrandom": 278, "landlock_create_ruleset": 444,
        "memfd_secret": 447, "mlock": 228, "prctl": 167, "unshare": 97,
    },
}[platform.machine()]
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

separator = sys.argv.index("--")
# Operation, how far to jump if true and if not, operand.
program = [(LOAD, 0, 0, 0)]
for refused in sys.argv[1:separator]:
    call, error = refused.split("=")
    program += [(EQUAL, 0, 1, NUMBERS[call]), (RETURN, 0, 0, ERRNO | getattr(errno, error))]
program.append((RETURN, 0, 0, ALLOW))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
libc = ctypes.CDLL(None, use_errno=True)
filter = Program(len(program), code)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter)):
    sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[separator + 1], sys.argv[separator + 1 :])
