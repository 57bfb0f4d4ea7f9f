// libcephfs, opened on first use: a node that has block devices only need not have it.
//
//   CEPHFS(ceph_mkdir, mount, path, mode)
//
// calls one of its functions, and throws where that answers an error.
#pragma once
#include <cephfs/libcephfs.h>

#include "runtime/failure.h"

namespace cephkit {

// [worker] Throws Failure: there is no libcephfs, or it is older than the function.
void* LibcephfsSymbol(const char* name);

}  // namespace cephkit

// Macros, so that type and name of a function, and the syscall of its failures, are one word.
#define LIBCEPHFS(function)                                                                          \
    ([] {                                                                                            \
        using Function = decltype(&::function);                                                      \
        static const auto found = reinterpret_cast<Function>(::cephkit::LibcephfsSymbol(#function)); \
        return found;                                                                                \
    }())
#define CEPHFS(function, ...) ::cephkit::Check(#function, LIBCEPHFS(function)(__VA_ARGS__))
