// Who may write to an image: librbd's managed exclusive lock, and the advisory locks of `rbd lock`.
#pragma once
#include "rbd/image.h"

namespace cephkit {

// [worker] Whether another client has the exclusive lock, or may have made librbd refuse it; true also where
// that cannot be known, unless because the cluster does not answer.
bool IsKeptByOther(Image& image);

void InitRbdLock(Exports& exports);

}  // namespace cephkit
