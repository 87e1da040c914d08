"""Takes system calls away from a probe that no submission needs, on Linux (seccomp, as browsers and containers use it).

Three kinds. What reaches other processes: tracing them, reading their memory, signalling the zygote or the grader, also
by way of a descriptor's owner. What outlives a probe or is counted nowhere: System V memory, message queues, keys of
the kernel, files in memory, longer queues of sockets and pipes, pages that a pipe holds. What opens the kernel wide or
leaves the sandbox: new namespaces, mounts, and every socket but local connections, so that also the levels without
namespaces have no network.
"""

import ctypes
import errno
import platform
import struct
import sys

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column in the tables below, AUDIT_ARCH
_DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "setsid": (112, 157),  # each session has the same share of the processors
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_setup": (206, 0),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
}
# Their first argument names a process: the guarded ones are refused.
_NAME_A_PROCESS = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag
_PRCTL, _PR_SET_PDEATHSIG = (157, 167), 1  # a probe ends with its zygote
# Local ones, and connections alone: anybody can fill the queue of a datagram socket, and then vanish.
_MAKE_SOCKETS = {"socket": (41, 198), "socketpair": (53, 199)}
_AF_UNIX, _SOCK_DGRAM = 1, 2  # the bit of SOCK_DGRAM is in SOCK_RAW too, which is the same, and in no other
_SETSOCKOPT, _SO_REUSEADDR = (54, 208), 2  # what multiprocessing sets; others lengthen queues
# Their second argument says what to do. Naming an owner of a descriptor, and a signal, is a way to kill a process.
_COMMANDS = {
    "fcntl": ((72, 25), {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15, "F_SETPIPE_SZ": 1031}),
    "ioctl": ((16, 29), {"FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902}),
}

# Of the kernel's packet filter machine: load a word of the call, compare it, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_ALLOW, _REFUSE, _ABSENT = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_GET_SECCOMP, _MODE_FILTER = 38, 22, 21, 2


def can_restrict() -> bool:
    """Return whether this system can take system calls away."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def restrict_calls(guarded: list[int]) -> None:
    """Take the calls away from this process and all that it starts, for good.

    Args:
        guarded: processes and threads that it may not signal or limit, next to every process group.

    Raises:
        OSError: the kernel refuses the filter.
    """
    program = _program(guarded)
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, padding, their address.
    prog = struct.pack("@HxxxxxxQ", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0), (_PR_SET_SECCOMP, _MODE_FILTER, prog)):
        if libc.prctl(*call, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")


def _program(guarded: list[int]) -> list[tuple[int, int, int, int]]:
    """The filter: (operation, steps to skip if true, steps to skip if false, constant), first match decides."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    program = [
        *((_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _REFUSE)),
        (_LOAD, 0, 0, _NUMBER),
        *((_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _REFUSE)),  # the x32 numbers would go round this list
    ]
    for numbers in _DENIED.values():
        program += _on(numbers[column], [(_RETURN, 0, 0, _REFUSE)])
    # glibc falls back to clone(), whose flags can be looked at; those of clone3() lie in memory.
    program += _on(_CLONE3[column], [(_RETURN, 0, 0, _ABSENT)])
    program += _on(_CLONE[column], _argument(0, [(_ANY_BIT, _NEW_NAMESPACES)], _REFUSE, otherwise=_ALLOW))
    program += _on(_PRCTL[column], _argument(0, [(_EQUAL, _PR_SET_PDEATHSIG)], _REFUSE, otherwise=_ALLOW))
    for numbers in _MAKE_SOCKETS.values():
        connection = _argument(1, [(_ANY_BIT, _SOCK_DGRAM)], _REFUSE, otherwise=_ALLOW)
        local = [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, _REFUSE)]
        program += _on(numbers[column], [*local, *connection])
    harmless = [(_EQUAL, _SO_REUSEADDR)]
    program += _on(_SETSOCKOPT[column], _argument(2, harmless, _ALLOW, otherwise=_REFUSE))
    for numbers, commands in _COMMANDS.values():
        tests = [(_EQUAL, command) for command in commands.values()]
        program += _on(numbers[column], _argument(1, tests, _REFUSE, otherwise=_ALLOW))
    for name, numbers in _NAME_A_PROCESS.items():
        groups = [(_AT_LEAST, 0x80000000)] if name == "kill" else []  # negative: process groups, and -1 is everybody
        tests = [*groups, *((_EQUAL, pid) for pid in guarded)]
        program += _on(numbers[column], _argument(0, tests, _REFUSE, otherwise=_ALLOW))
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _on(number: int, block: list) -> list:
    return [(_EQUAL, 0, len(block), number), *block]


def _argument(index: int, tests: list[tuple[int, int]], if_any: int, otherwise: int) -> list:
    """A block that decides by one of the call's arguments, as far as its lower 32 bits."""
    steps = [(operation, len(tests) - i, 0, constant) for i, (operation, constant) in enumerate(tests)]
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * index), *steps, (_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, if_any)]
