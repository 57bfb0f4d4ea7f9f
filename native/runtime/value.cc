#include "runtime/value.h"

#include "runtime/handle.h"

namespace cephkit {
namespace {

constexpr int64_t max_safe_integer = (int64_t{1} << 53) - 1;

struct ToJsVisitor {
    Napi::Env env;

    Napi::Value operator()(std::monostate) const { return env.Undefined(); }
    Napi::Value operator()(std::nullptr_t) const { return env.Null(); }
    Napi::Value operator()(bool value) const { return Napi::Boolean::New(env, value); }
    Napi::Value operator()(int64_t value) const {
        if (value > max_safe_integer || value < -max_safe_integer) return Napi::BigInt::New(env, value);
        return Napi::Number::New(env, static_cast<double>(value));
    }
    Napi::Value operator()(const std::string& value) const { return Napi::String::New(env, value); }
    Napi::Value operator()(const Bytes& value) const {
        return Napi::Buffer<char>::Copy(env, value.data.data(), value.data.size());
    }
    Napi::Value operator()(const Time& value) const { return Napi::Date::New(env, value.milliseconds); }
    Napi::Value operator()(const Opaque& value) const { return Napi::BigInt::New(env, value.bits); }
    Napi::Value operator()(const Array& values) const {
        auto array = Napi::Array::New(env, values.size());
        for (uint32_t i = 0; i < values.size(); i++) {
            Napi::HandleScope scope(env);
            array.Set(i, values[i].ToJs(env));
        }
        return array;
    }
    Napi::Value operator()(const Object& members) const {
        auto object = Napi::Object::New(env);
        for (const auto& [name, value] : members) {
            if (!value.undefined()) object.Set(name, value.ToJs(env));
        }
        return object;
    }
    Napi::Value operator()(const std::shared_ptr<Handle>& handle) const { return Handle::ToJs(env, handle); }
};

}  // namespace

Value::Value(uint64_t value) {
    if (value > static_cast<uint64_t>(max_safe_integer)) {
        value_ = Opaque{value};
    } else {
        value_ = static_cast<int64_t>(value);
    }
}

Napi::Value Value::ToJs(Napi::Env env) const {
    return std::visit(ToJsVisitor{env}, value_);
}

std::shared_ptr<Handle> Value::handle() const {
    const auto* handle = std::get_if<std::shared_ptr<Handle>>(&value_);
    return handle == nullptr ? nullptr : *handle;
}

}  // namespace cephkit
