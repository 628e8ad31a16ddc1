"""A FUSE file system over an ordinary folder that lacks what some have: python -m tests.faults.poor_fuse SOURCE FOLDER.

It serves ``SOURCE`` at ``FOLDER`` until that is unmounted, and refuses ``flock``, links, changes of permissions and
``fsync`` of folders as Lustre, exFAT and others do.
"""

import errno
import os
import sys
from pathlib import Path

import mfusepy


class Poor(mfusepy.Operations):
    """What it does and does not."""

    use_ns = True

    def __init__(self, source):
        self.source = source

    def real(self, path):
        return Path(f"{self.source}{path}")

    def flock(self, path, fh, op):
        raise mfusepy.FuseOSError(errno.ENOSYS)

    def fsyncdir(self, path, datasync, fh):
        raise mfusepy.FuseOSError(errno.EINVAL)

    def symlink(self, target, link):
        raise mfusepy.FuseOSError(errno.EPERM)

    def link(self, target, link):
        raise mfusepy.FuseOSError(errno.EPERM)

    def chmod(self, path, mode):
        raise mfusepy.FuseOSError(errno.EPERM)

    def getattr(self, path, fh=None):
        found = os.lstat(self.real(path)) if fh is None else os.fstat(fh)
        names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks")
        times = {f"st_{kind}time": getattr(found, f"st_{kind}time_ns") for kind in "amc"}
        return {name: getattr(found, name) for name in names} | times

    def readdir(self, path, fh):
        return [".", "..", *(found.name for found in self.real(path).iterdir())]

    def create(self, path, mode, fi=None):
        return os.open(self.real(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def open(self, path, flags):
        return os.open(self.real(path), flags & ~os.O_APPEND)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(self.real(path) if fh is None else fh, length)
        return 0

    def fsync(self, path, datasync, fh):
        os.fsync(fh)
        return 0

    def release(self, path, fh):
        os.close(fh)
        return 0

    def rename(self, old, new):
        self.real(old).rename(self.real(new))
        return 0

    def mkdir(self, path, mode):
        self.real(path).mkdir(mode)
        return 0

    def rmdir(self, path):
        self.real(path).rmdir()
        return 0

    def unlink(self, path):
        self.real(path).unlink()
        return 0

    def utimens(self, path, times=None):
        os.utime(self.real(path), ns=times)
        return 0

    def statfs(self, path):
        found = os.statvfs(self.real(path))
        return {name: getattr(found, name) for name in dir(found) if name.startswith("f_") and name != "f_fsid"}


if __name__ == "__main__":
    mfusepy.FUSE(Poor(sys.argv[1]), sys.argv[2], foreground=True)
