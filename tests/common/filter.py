"""Executes a program behind a seccomp filter that refuses calls: filter.py CALL[&FLAG]=ERROR... -- PROGRAM ARGUMENT...

With a flag, only where the call's first argument has it.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {
        "clone": 56, "clone3": 435, "close_range": 436, "fork": 57, "getrandom": 318, "landlock_create_ruleset": 444,
        "memfd_secret": 447, "mlock": 149, "prctl": 157, "unshare": 272,
    },
    "aarch64": {
        "clone": 220, "clone3": 435, "close_range": 436, "getrandom": 278, "landlock_create_ruleset": 444,
        "memfd_secret": 447, "mlock": 228, "prctl": 167, "unshare": 97,
    },
}[platform.machine()]
FLAGS = {"CLONE_NEWUSER": 0x10000000}
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
# Where the call's number and its first argument are.
NUMBER, FIRST = 0, 16
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2

separator = sys.argv.index("--")
# Operation, how far to jump if true and if not, operand.
program = []
for rule in sys.argv[1:separator]:
    call, error = rule.split("=")
    call, _, flag = call.partition("&")
    refusal = [(RETURN, 0, 0, ERRNO | getattr(errno, error))]
    if flag:
        refusal = [(LOAD, 0, 0, FIRST), (ANY_BIT, 0, 1, FLAGS[flag]), *refusal]
    program += [(LOAD, 0, 0, NUMBER), (EQUAL, 0, len(refusal), NUMBERS[call]), *refusal]
program.append((RETURN, 0, 0, ALLOW))


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
libc = ctypes.CDLL(None, use_errno=True)
filter = Program(len(program), code)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter)):
    sys.exit(f"no seccomp filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[separator + 1], sys.argv[separator + 1 :])
