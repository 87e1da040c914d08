"""The untrusted side: the only code that shares a process with a submission. It holds no expected value, no verdict."""
