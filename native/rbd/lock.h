// Who may write to an image: librbd's managed exclusive lock, and the advisory locks of `rbd lock`.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitRbdLock(Exports& exports);

}  // namespace cephkit
