// Ceph's ways of returning a list into memory of the caller's.
#pragma once
#include <cstring>
#include <string>
#include <vector>

#include "runtime/failure.h"
#include "runtime/value.h"

namespace cephkit {

// For calls that take (items, &count), fail with ERANGE when there are more, and set count either way.
template <typename Item, typename Count, typename Call>
std::vector<Item> List(const char* syscall, Count guess, Call call) {
    std::vector<Item> items(guess);
    for (;;) {
        Count count = static_cast<Count>(items.size());
        const auto result = call(items.data(), &count);
        if (result == -ERANGE) {
            items.resize(std::max<size_t>(count, items.size() + 1));
            continue;
        }
        Check(syscall, result);
        items.resize(count);
        return items;
    }
}

// For calls that take (buffer, size) and fail with ERANGE when it is too small, saying no more.
template <typename Call>
std::string String(const char* syscall, size_t guess, Call call) {
    std::vector<char> buffer(guess);
    for (;;) {
        const auto result = call(buffer.data(), buffer.size());
        if (result == -ERANGE) {
            buffer.resize(buffer.size() * 2);
            continue;
        }
        Check(syscall, result);
        return buffer.data();
    }
}

// The strings in "one\0two\0", which may end with an empty one.
inline std::vector<std::string> SplitStrings(const char* data, size_t size) {
    std::vector<std::string> strings;
    for (size_t at = 0; at < size;) {
        const size_t length = strnlen(data + at, size - at);
        if (length == 0) break;
        strings.emplace_back(data + at, length);
        at += length + 1;
    }
    return strings;
}

// Calls a C clean-up function when the list it belongs to goes.
template <typename Function>
class Cleanup {
public:
    explicit Cleanup(Function function) : function_(std::move(function)) {}
    Cleanup(const Cleanup&) = delete;
    ~Cleanup() { function_(); }

private:
    Function function_;
};

template <typename Items>
Array ToArray(const Items& items) {
    return Array(items.begin(), items.end());
}

}  // namespace cephkit
