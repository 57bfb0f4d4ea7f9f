// How a call into Ceph failed. Thrown on any thread, turned into a JS Error on the JS thread.
#pragma once
#include <cerrno>
#include <string>
#include <utility>

namespace cephkit {

struct Failure {
    std::string syscall;  // the C function
    int error;            // positive errno
    std::string detail;   // what Ceph said besides, if anything
};

// Passes a C function's result on, or throws when it is an error.
template <typename Result>
Result Check(const char* syscall, Result result, std::string detail = "") {
    if (result < 0) throw Failure{syscall, static_cast<int>(-result), std::move(detail)};
    return result;
}

}  // namespace cephkit
