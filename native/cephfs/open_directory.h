// Directories that are held open, and what is made below them. No symbolic link is followed: each name is
// looked up in the directory that is open, so whoever puts a link where a directory was leads nowhere.
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// [worker] What libcephfs has opened with those, or -ENOTDIR: it does not look whether it is a directory.
int IfDirectory(ceph_mount_info* mount, int fd);

void InitOpenDirectory(Exports& exports);

}  // namespace cephkit
