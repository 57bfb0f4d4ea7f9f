// Advisory locks on RADOS objects, with a duration.
#pragma once
#include "rados/ioctx.h"

namespace cephkit {

void InitRadosLock(Exports& exports);

}  // namespace cephkit
