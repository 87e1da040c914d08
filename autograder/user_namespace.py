"""Runs bubblewrap as root in a user namespace that knows root and one other user: `user_namespace.py USER bwrap ...`.

Bubblewrap by itself maps one user alone. Started by root, its sandbox would act as root on every file that it sees, and
the kernel never limits root's processes. With this namespace the mounts are made as root, and the worker becomes the
other user before it imports anything.
"""

import ctypes
import os
import sys

_CLONE_NEWUSER = 0x10000000


def make_user_namespace(user: int) -> int:
    """Return a descriptor of a new user namespace with root and `user` in it, each mapped to itself."""
    made, made_write = os.pipe()
    mapped_read, mapped = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        if ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0:
            os.write(made_write, b"x")
            os.read(mapped_read, 1)
            code = 0
        os._exit(code)
    os.close(made_write)
    if not os.read(made, 1):
        sys.exit("user namespaces are not permitted")
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{kind}", "w") as file:
            file.write(f"0 0 1\n{user} {user} 1\n")
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    os.set_inheritable(namespace, True)
    os.write(mapped, b"x")
    os.waitpid(pid, 0)
    return namespace


if __name__ == "__main__":
    user, (program, *arguments) = int(sys.argv[1]), sys.argv[2:]
    os.execvp(program, [program, "--userns", str(make_user_namespace(user)), *arguments])
