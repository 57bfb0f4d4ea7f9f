// Snapshots of an image.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitSnapshot(Exports& exports);

}  // namespace cephkit
