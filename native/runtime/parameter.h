// How each type that a binding takes is made of a JavaScript argument.
//
// Parameter<T> names what is stored while the operation runs (Stored), takes it from the arguments on the JS
// thread (Take, which throws a TypeError or RangeError), and passes it to the binding on whatever thread that
// runs (Pass). lib/ has checked the arguments already, with better words; this is so that a mistake there is
// an exception too.
#pragma once
#include <napi.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/operation.h"

namespace cephkit {

class Arguments {
public:
    explicit Arguments(const Napi::CallbackInfo& info)
        : info_(info), token_(info.Length() > 0 ? AbortToken::FromJs(info[info.Length() - 1]) : nullptr) {
        if (Environment::Of(env())->ending())
            throw ToJs(env(), Failure{"exit", EBADF, "the process is ending"});
    }

    Napi::Env env() const { return info_.Env(); }
    Napi::Value Next() { return info_[next_++]; }
    // The argument that Next() gave last, for messages: counted from 1.
    std::string position() const { return "argument " + std::to_string(next_); }
    // The last argument, if it is an abort token.
    const std::shared_ptr<AbortToken>& token() const { return token_; }

    Napi::TypeError Expected(const char* what) const {
        return Napi::TypeError::New(env(), position() + " must be " + what);
    }

private:
    const Napi::CallbackInfo& info_;
    size_t next_ = 0;
    std::shared_ptr<AbortToken> token_;
};

template <typename T, typename Enable = void>
struct Parameter;

// What is stored is what is passed.
template <typename T>
struct PlainParameter {
    using Stored = T;
    static const T& Pass(const T& stored) { return stored; }
};

template <>
struct Parameter<bool> : PlainParameter<bool> {
    static bool Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsBoolean()) throw arguments.Expected("a boolean");
        return value.As<Napi::Boolean>();
    }
};

// Numbers must be integers that the C type holds, never truncated ones.
template <typename Integer>
struct Parameter<Integer, std::enable_if_t<std::is_integral_v<Integer> && !std::is_same_v<Integer, bool>>>
    : PlainParameter<Integer> {
    static Integer Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsNumber()) throw arguments.Expected("a number");
        const double number = value.As<Napi::Number>().DoubleValue();
        constexpr double safe = 9007199254740991;
        constexpr double low = std::is_signed_v<Integer>
                                   ? std::max(-safe, static_cast<double>(std::numeric_limits<Integer>::min()))
                                   : 0;
        constexpr double high = std::min(safe, static_cast<double>(std::numeric_limits<Integer>::max()));
        if (!(number >= low && number <= high) ||
            number != static_cast<double>(static_cast<Integer>(number))) {
            throw Napi::RangeError::New(arguments.env(), arguments.position() + " is out of range");
        }
        return static_cast<Integer>(number);
    }
};

// 64 bits that are no quantity, as in value.h.
template <>
struct Parameter<Opaque> : PlainParameter<Opaque> {
    static Opaque Take(Arguments& arguments) {
        const auto value = arguments.Next();
        bool lossless = false;
        if (!value.IsBigInt()) throw arguments.Expected("a bigint");
        const uint64_t bits = value.As<Napi::BigInt>().Uint64Value(&lossless);
        if (!lossless)
            throw Napi::RangeError::New(arguments.env(), arguments.position() + " is out of range");
        return Opaque{bits};
    }
};

inline std::string ToCString(const Arguments& arguments, Napi::Value value) {
    if (!value.IsString()) throw arguments.Expected("a string");
    std::string text = value.As<Napi::String>();
    if (text.find('\0') != std::string::npos) throw arguments.Expected("a string without NUL");
    return text;
}

// For C functions that end a string at its NUL.
template <>
struct Parameter<const char*> {
    using Stored = std::string;
    static Stored Take(Arguments& arguments) { return ToCString(arguments, arguments.Next()); }
    static const char* Pass(const Stored& stored) { return stored.c_str(); }
};

template <>
struct Parameter<const std::string&> : PlainParameter<std::string> {
    static Stored Take(Arguments& arguments) { return ToCString(arguments, arguments.Next()); }
};

// An absent string is NULL.
struct NullableString {
    std::optional<std::string> text;
    operator const char*() const { return text ? text->c_str() : nullptr; }
};

template <>
struct Parameter<const NullableString&> : PlainParameter<NullableString> {
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (value.IsNull()) return {};
        return {ToCString(arguments, value)};
    }
};

using StringMap = std::map<std::string, std::string>;
using StringList = std::vector<std::string>;

template <>
struct Parameter<const StringList&> : PlainParameter<StringList> {
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsArray()) throw arguments.Expected("an array");
        const auto array = value.As<Napi::Array>();
        StringList list;
        for (uint32_t i = 0; i < array.Length(); i++)
            list.push_back(ToCString(arguments, array.Get(i)));
        return list;
    }
};

template <>
struct Parameter<const StringMap&> : PlainParameter<StringMap> {
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsObject()) throw arguments.Expected("an object");
        const auto object = value.As<Napi::Object>();
        const auto names = object.GetPropertyNames();
        StringMap map;
        for (uint32_t i = 0; i < names.Length(); i++) {
            const Napi::Value name = names.Get(i);
            map[ToCString(arguments, name)] = ToCString(arguments, object.Get(name));
        }
        return map;
    }
};

// The memory of a Buffer, TypedArray or DataView.
struct View {
    Napi::Object object;
    char* data;
    size_t size;

    static View Of(const Arguments& arguments, Napi::Value value) {
        if (value.IsDataView()) {
            auto view = value.As<Napi::DataView>();
            return {view, static_cast<char*>(view.Data()), view.ByteLength()};
        }
        if (!value.IsTypedArray()) throw arguments.Expected("a Buffer, TypedArray or DataView");
        auto view = value.As<Napi::TypedArray>();
        void* data = nullptr;
        napi_value buffer = nullptr;
        const napi_status status =
            napi_get_typedarray_info(view.Env(), view, nullptr, nullptr, &data, &buffer, nullptr);
        NAPI_THROW_IF_FAILED(view.Env(), status, View());
        if (view.ByteLength() == 0 && Napi::ArrayBuffer(view.Env(), buffer).IsDetached())
            throw arguments.Expected("in memory that is not detached");
        return {view, static_cast<char*>(data), view.ByteLength()};
    }
};

// For librbd to read or write in place. Referenced until the operation has settled.
class PinnedBuffer {
public:
    PinnedBuffer(const Arguments& arguments, Napi::Value value)
        : PinnedBuffer(arguments.env(), View::Of(arguments, value)) {}
    PinnedBuffer(PinnedBuffer&& other) = default;
    ~PinnedBuffer() {
        if (environment_ != nullptr) environment_->BufferUnpinned();
    }

    char* data() const { return data_; }
    size_t size() const { return size_; }

private:
    // An empty buffer may have no memory, and librbd takes NULL for a bug.
    PinnedBuffer(Napi::Env env, const View& view)
        : environment_(Environment::Of(env)),
          view_(Napi::Persistent(view.object)),
          data_(view.data == nullptr ? &nothing_ : view.data),
          size_(view.size) {
        environment_->BufferPinned();
    }

    static inline char nothing_ = '\0';

    std::shared_ptr<Environment> environment_;  // none once moved from
    Napi::ObjectReference view_;
    char* data_;
    size_t size_;
};

template <>
struct Parameter<const PinnedBuffer&> : PlainParameter<PinnedBuffer> {
    static PinnedBuffer Take(Arguments& arguments) { return {arguments, arguments.Next()}; }
};

// The bytes of a view, copied: for arguments that are small, or that Ceph copies anyway. librados counts them
// in an int, or in 32 bits.
inline std::string ToBytes(const Arguments& arguments, Napi::Value value) {
    const auto view = View::Of(arguments, value);
    if (view.size > INT32_MAX)
        throw Napi::RangeError::New(arguments.env(), arguments.position() + " is too long");
    return {view.data, view.size};
}

template <>
struct Parameter<const Bytes&> : PlainParameter<Bytes> {
    static Bytes Take(Arguments& arguments) { return {ToBytes(arguments, arguments.Next())}; }
};

// An open handle of that kind; it stays open until the operation has settled.
template <typename T>
struct Parameter<T&, std::enable_if_t<std::is_base_of_v<Handle, T>>> {
    using Stored = std::shared_ptr<T>;
    static Stored Take(Arguments& arguments) {
        const auto handle = Handle::FromJs(arguments.Next());
        auto typed = std::dynamic_pointer_cast<T>(handle);
        if (typed == nullptr) throw arguments.Expected(T::kKind);
        return typed;
    }
    static T& Pass(const Stored& stored) { return *stored; }
};

// No argument, but a place for what a call brings.
template <typename T>
struct OutParameter {
    using Stored = std::unique_ptr<T>;
    static Stored Take(Arguments&) { return std::make_unique<T>(); }
    static T* Pass(const Stored& stored) { return stored.get(); }
};

// Reports from inside a long call, and the way to stop it. JavaScript sees the newest report, not each.
class Progress : public Delivery {
public:
    Progress(Napi::Env env, std::shared_ptr<AbortToken> token, Napi::Value callback)
        : environment_(Environment::Of(env)), token_(std::move(token)) {
        if (callback.IsFunction()) callback_ = Napi::Persistent(callback.As<Napi::Function>());
    }

    // [any thread] A librbd_progress_fn_t. Where librbd looks at the result, an abort stops the call, and so
    // does the end of the environment.
    static int Update(uint64_t done, uint64_t total, void* progress) {
        return static_cast<Progress*>(progress)->Update(done, total);
    }
    bool has_begun() const { return total_ > 0; }

    void Deliver(Napi::Env env) override {
        posted_ = false;
        callback_.Call({Napi::Number::New(env, done_), Napi::Number::New(env, total_)});
    }
    void Discard() override {}

private:
    int Update(uint64_t done, uint64_t total) {
        done_ = done;
        total_ = total;
        if (!callback_.IsEmpty() && !posted_.exchange(true)) environment_->inbox().Post(this);
        const bool aborted = token_ != nullptr && token_->aborted;
        return aborted || environment_->ending() ? -ECANCELED : 0;
    }

    std::shared_ptr<Environment> environment_;
    std::shared_ptr<AbortToken> token_;
    Napi::FunctionReference callback_;
    std::atomic<uint64_t> done_{0};
    std::atomic<uint64_t> total_{0};
    std::atomic<bool> posted_{false};
};

// Passed as a pointer, for that is what C takes besides Progress::Update.
template <>
struct Parameter<Progress*> {
    using Stored = std::unique_ptr<Progress>;
    static Stored Take(Arguments& arguments) {
        const auto value = arguments.Next();
        if (!value.IsFunction() && !value.IsNull()) throw arguments.Expected("a function or null");
        return std::make_unique<Progress>(arguments.env(), arguments.token(), value);
    }
    static Progress* Pass(const Stored& stored) { return stored.get(); }
};

}  // namespace cephkit
