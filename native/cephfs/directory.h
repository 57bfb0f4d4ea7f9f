// Listing directories, and removing them with all that is in them.
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

// [worker] Of all entries, at once.
std::vector<std::string> ReadNames(Mount& mount, const char* path);

void InitDirectory(Exports& exports);

}  // namespace cephkit
