"""A machine as a container sees it: an empty root with the system's programs read-only, and no network.

Made of namespaces, so that what a page tells to type can be typed without a container engine. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.clocks import HANGS_SECONDS

_SET_UP = """\
set -e
root=$1
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -p "$root"/{proc,dev,etc,tmp,var/tmp,old}
chmod 1777 "$root"/tmp "$root"/var/tmp
mount -t proc proc "$root/proc"
for name in null zero urandom; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
for name in bin sbin lib lib64; do if [ -L "/$name" ]; then cp -a "/$name" "$root/$name"; fi; done
bound() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"; }
cp /etc/ld.so.cache "$root/etc/" 2>/dev/null || true
"""


@dataclass
class EmptyRoot:
    """`binds` are (what, where, "ro" or "rw"), beside the system's programs and this Python; `files` are put there."""

    folder: Path
    binds: list[tuple[Path, str, str]] = field(default_factory=list)
    files: Mapping[str, str] = field(default_factory=dict)
    is_read_only: bool = False

    def run(self, script: str, environment: Mapping[str, str], user: str = "0:0") -> subprocess.CompletedProcess[str]:
        """A script of bash in there, as `UID:GID`; skips the test where there can't be such a root."""
        if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "chroot", "bash"))):
            pytest.skip("needs root, and util-linux")
        root = self.folder / "root"
        root.mkdir()
        system = [(Path("/usr"), "/usr", "ro"), (Path(sys.base_prefix), sys.base_prefix, "ro")]
        lines = [_SET_UP]
        if self.is_read_only:  # before the binds: the checkout and its Python may lie in /tmp
            lines.append("mount -t tmpfs -o mode=1777 tmpfs $root/tmp")
        for what, where, mode in [*system, *self.binds]:
            lines.append(f"bound '{what}' '{where}' {mode}")
        for place, text in {**self.files, "/script": script}.items():
            source = self.folder / f"file{len(lines)}"
            source.write_text(text)
            source.chmod(0o755)
            lines.append(f'mkdir -p "$(dirname "$root{place}")"; cp \'{source}\' "$root{place}"')
        if self.is_read_only:
            lines.append("mount -o remount,ro $root")
        uid, gid = user.split(":")
        settings = " ".join(f"'{name}={value}'" for name, value in environment.items())
        becoming = f"/usr/bin/setpriv --reuid={uid} --regid={gid} --clear-groups"
        lines.append(f'exec chroot "$root" /usr/bin/env -i {settings} {becoming} /bin/bash /script')
        set_up = self.folder / "set-up"
        set_up.write_text("\n".join(lines))
        apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--propagation", "private"]
        if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
            pytest.skip("no namespaces may be made here")
        return subprocess.run(
            [*apart, "bash", str(set_up), str(root)],
            capture_output=True, text=True, timeout=HANGS_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
