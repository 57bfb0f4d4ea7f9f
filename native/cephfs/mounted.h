// A CephFS that the kernel or ceph-fuse has mounted, by the system calls that everybody uses it with.
//
// Each call is made by a process of its own (own_process.h), which first looks whether a CephFS is mounted
// there, and then goes on from what it has looked at: never in the directory that is below the mount, nor out
// of it by a symbolic link.
#pragma once
#include "runtime/bind.h"

namespace cephkit {

void InitMounted(Exports& exports);

}  // namespace cephkit
