// The data of an image, by librbd's asynchronous calls. Nothing is copied here: librbd reads and writes the
// memory of the JavaScript buffer, which is pinned until the call completes.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitIo(Exports& exports);

}  // namespace cephkit
