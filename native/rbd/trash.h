// The trash of a pool: images that are gone by name and may still come back.
#pragma once
#include "rados/ioctx.h"

namespace cephkit {

void InitTrash(Exports& exports);

}  // namespace cephkit
