// A result on its way to JavaScript: built on any thread, turned into a JS value on the JS thread.
#pragma once
#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace cephkit {

class Handle;
class Value;

using Array = std::vector<Value>;
using Object = std::vector<std::pair<std::string, Value>>;

// Becomes a Buffer.
struct Bytes {
    std::string data;
};

// Becomes a Date.
struct Time {
    double milliseconds;
    static Time Of(const struct timespec& time) { return {time.tv_sec * 1e3 + time.tv_nsec / 1e6}; }
    static Time Of(time_t seconds) { return {seconds * 1e3}; }
};

// 64 bits that are no quantity (a cookie, a client id): a BigInt, whatever their value.
struct Opaque {
    uint64_t bits;
};

class Value {
public:
    Value() = default;  // undefined
    Value(std::nullptr_t) : value_(nullptr) {}
    Value(bool value) : value_(value) {}
    Value(int value) : value_(int64_t{value}) {}
    Value(unsigned value) : value_(int64_t{value}) {}
    Value(int64_t value) : value_(value) {}
    // A quantity above 2^53 cannot be a JS number: it becomes a BigInt rather than another number.
    Value(uint64_t value);
    Value(const char* value) : value_(std::string(value)) {}
    Value(std::string value) : value_(std::move(value)) {}
    Value(Bytes value) : value_(std::move(value)) {}
    Value(Time value) : value_(value) {}
    Value(Opaque value) : value_(value) {}
    Value(Array value) : value_(std::move(value)) {}
    Value(Object value) : value_(std::move(value)) {}
    Value(std::shared_ptr<Handle> value) : value_(std::move(value)) {}

    bool undefined() const { return std::holds_alternative<std::monostate>(value_); }
    Napi::Value ToJs(Napi::Env env) const;

    // The handle this result brings into being, if it does.
    std::shared_ptr<Handle> handle() const;

private:
    std::variant<std::monostate, std::nullptr_t, bool, int64_t, std::string, Bytes, Time, Opaque, Array,
                 Object, std::shared_ptr<Handle>>
        value_;
};

// A string that may be NULL in C; undefined then.
inline Value Optional(const char* text) {
    return text == nullptr ? Value() : Value(text);
}

}  // namespace cephkit
