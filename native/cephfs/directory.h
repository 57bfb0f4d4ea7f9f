// Listing directories.
#pragma once
#include <set>

#include "cephfs/mount.h"

namespace cephkit {

// [worker] The next names of the cursor. Fewer than the limit at the end only.
std::vector<std::string> TakeNames(ceph_mount_info* mount, ceph_dir_result* directory, size_t limit,
                                   const std::set<std::string>& except = {});

// [worker] Of all entries, at once.
std::vector<std::string> ReadNames(Mount& mount, const char* path);

void InitDirectory(Exports& exports);

}  // namespace cephkit
