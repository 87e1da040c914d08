"""What killed processes have left behind: work that nobody will go on with."""

import shutil
import time
from pathlib import Path

OLD_AFTER = 24 * 3600  # seconds; a younger one may be another process's work


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Remove unfinished files and folders that nobody has touched for a day.

    Args:
        folder: where they lie.
        pattern: of their names, such as ".building-*".
    """
    for path in folder.glob(pattern):
        try:
            if time.time() - path.stat().st_mtime < OLD_AFTER:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            pass  # another process may be at it, or nobody may remove it
