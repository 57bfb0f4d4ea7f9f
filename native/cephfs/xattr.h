// Extended attributes: a user's own, and those by which CephFS tells of itself (ceph.dir.rbytes) and is told
// (ceph.quota).
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

// [worker] nullopt when it is not there.
std::optional<std::string> FindXattr(Mount& mount, const char* path, const char* name, bool follow);

void InitXattr(Exports& exports);

}  // namespace cephkit
