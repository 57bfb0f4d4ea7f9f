// Quiesce hooks: whoever makes a snapshot waits until JavaScript says that it holds its I/O.
//
// Threads: librbd calls back on its threads, which may only queue, or answer.
#pragma once
#include "rbd/image.h"

namespace cephkit {

void InitQuiesce(Exports& exports);

}  // namespace cephkit
