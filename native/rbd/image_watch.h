// A watch on an image's header: that it has changed, passed to JavaScript.
//
// Threads: librbd calls back on one thread for all images of a cluster, and whoever changed the image waits
//          for it: the callback may only queue.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitImageWatch(Exports& exports);

}  // namespace cephkit
