// Snapshots of a directory and all that is below it, by name.
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

void InitFileSystemSnapshot(Exports& exports);

}  // namespace cephkit
