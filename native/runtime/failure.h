// How a call into Ceph failed. Thrown on any thread, turned into a JS Error on the JS thread.
#pragma once
#include <cerrno>
#include <exception>
#include <new>
#include <optional>
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

// What a function throws, whatever that is: for where nobody is there to catch it.
template <typename Function>
std::optional<Failure> Caught(Function&& function) {
    try {
        function();
        return std::nullopt;
    } catch (Failure& failure) {
        return std::move(failure);
    } catch (const std::bad_alloc&) {
        return Failure{"malloc", ENOMEM, ""};
    } catch (const std::exception& error) {
        return Failure{"librados", ENOTRECOVERABLE, error.what()};
    }
}

}  // namespace cephkit
