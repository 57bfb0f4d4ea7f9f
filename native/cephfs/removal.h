// Removing a directory with all that is in it, for some time at a time.
//
// Owns:    a reference to each directory on the way down, so that a tree of any depth is gone through once,
//          and no path is ever longer than a name.
// Closes:  as every handle; what has not been removed stays.
#pragma once
#include "cephfs/mount.h"

namespace cephkit {

void InitRemoval(Exports& exports);

}  // namespace cephkit
