"""Reproducible zip files: the same content gives the same bytes."""

import zipfile
from pathlib import Path

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip file


def write_zip(target: Path, members: dict[str, bytes], executable: tuple[str, ...] = ()) -> Path:
    """Write a zip file whose bytes depend on its content only.

    Args:
        target: the zip file; its folder is created.
        members: content by name.
        executable: names of the executable members.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, LONG_AGO)
            info.create_system = 3  # Unix on every system, so that the permissions apply
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name])
    return target
