// Snapshots of a directory and all that is below it, by name.
#pragma once
#include <string>
#include <vector>

#include "cephfs/inode.h"
#include "cephfs/mount.h"

namespace cephkit {

// [worker] The names of those of a directory itself.
std::vector<std::string> SnapshotNamesBelow(ceph_mount_info* mount, Inode* directory);

// [worker] Those of them that are there.
void RemoveSnapshotsBelow(Mount& mount, Inode* directory, const std::vector<std::string>& names);

void InitFileSystemSnapshot(Exports& exports);

}  // namespace cephkit
