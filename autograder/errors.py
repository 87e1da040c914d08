"""The error that a command answers with one clear line."""


class KitError(Exception):
    """Bad input or a missing piece: the message names the file and the remedy; the command line exits with code 2."""
