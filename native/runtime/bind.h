// Makes JavaScript functions of C++ ones.
//
// A binding is a function whose parameters say what it takes; Parameter<T> does the rest. The kinds:
//
//   exports.Blocking<Resize>(...)   runs on a worker, and answers a promise
//   exports.Unawaited<Check>(...)   the same, of what may hang: neither event loop nor exit waits for it
//   exports.Aio<Write>(...)         starts an asynchronous call of Ceph's, and answers a promise
//   exports.AioCount<Read>(...)     the same, of the number that the call ends with
//   exports.AioOnWorker<Open>(...)  the same, where the start alone takes a while
//   exports.Sync<Version>(...)      runs at once, on the JS thread: must not block
//
// Each may be given one argument more than it takes: an abort token.
#pragma once
#include <napi.h>
#include <rados/librados.h>
#include <rbd/librbd.h>

#include <atomic>
#include <optional>
#include <system_error>
#include <tuple>

#include "runtime/parameter.h"

namespace cephkit {

template <typename Parameter>
using StoredOf = typename cephkit::Parameter<Parameter>::Stored;

// The stored arguments of an operation, in order.
template <typename... Parameters>
using StoredTuple = std::tuple<StoredOf<Parameters>...>;

template <typename T>
void HoldHandle(Operation& operation, const T& stored) {
    if constexpr (std::is_convertible_v<T, std::shared_ptr<Handle>>) operation.Hold(stored);
}

template <typename T>
void CheckOpen(Napi::Env env, const T& stored) {
    if constexpr (std::is_convertible_v<T, std::shared_ptr<Handle>>) {
        if (!stored->open()) throw ToJs(env, Failure{"close", EBADF, ""});
    }
}

// Arguments and abort token of a call, kept until it has settled. What it answers is for the kind of call to
// say.
template <typename... Parameters>
class Bound : public Operation, public Job {
public:
    // Braces, because they evaluate from left to right.
    explicit Bound(Arguments& arguments, Awaited awaited = Awaited::kYes)
        : Bound(arguments, awaited, Opened(arguments, {Parameter<Parameters>::Take(arguments)...})) {}

    void Cancel() override {
        failure_ = Aborted();
        Discard();
    }

protected:
    Bound(Arguments& arguments, Awaited awaited, StoredTuple<Parameters...>&& stored)
        : Operation(arguments.env(), awaited), stored_(std::move(stored)), token_(arguments.token()) {
        std::apply([this](auto&... each) { (HoldHandle(*this, each), ...); }, stored_);
    }

    // For a worker to run, unless there can be none.
    void Submit() {
        try {
            environment().workers().Submit(this);
        } catch (const std::system_error& error) {
            failure_ = Failure{"pthread_create", error.code().value(), ""};
            Finish();
        }
    }

    // Does what there is to do, unless nobody waits for it any more.
    template <typename Function>
    void Attempt(Function&& function) {
        failure_ = aborted() ? Aborted() : Caught(function);
    }
    bool aborted() const { return token_ != nullptr && token_->aborted; }
    bool failed() const { return failure_.has_value(); }

    template <typename Function>
    auto Apply(Function&& function) {
        return std::apply([&](auto&... each) { return function(Parameter<Parameters>::Pass(each)...); },
                          stored_);
    }

    // What the call answers, where nothing has failed before. Throws Failure.
    virtual Value Answer() = 0;

    StoredTuple<Parameters...> stored_;

private:
    static Failure Aborted() { return {"abort", ECANCELED, ""}; }

    Outcome TakeOutcome() override {
        Value value;
        if (!failure_) failure_ = Caught([&] { value = Answer(); });
        if (failure_) return *std::move(failure_);
        return value;
    }

    // After all are taken, because a getter among them may have closed what came before.
    static StoredTuple<Parameters...> Opened(Arguments& arguments, StoredTuple<Parameters...>&& stored) {
        std::apply([&](auto&... each) { (CheckOpen(arguments.env(), each), ...); }, stored);
        return std::move(stored);
    }

    std::shared_ptr<AbortToken> token_;
    std::optional<Failure> failure_;
};

// Arguments are copied, and there may be no memory for that; Ceph has an exception of its own for it.
template <typename Call>
Call* Make(Arguments& arguments) {
    try {
        return new Call(arguments);
    } catch (const Napi::Error&) {
        throw;
    } catch (const std::exception&) {
        throw ToJs(arguments.env(), Failure{"malloc", ENOMEM, ""});
    }
}

// A parameter with an Explain() may know better why a blocking call failed. It is asked on the worker, and
// may block.
template <typename T, typename = void>
struct ExplainsFailure : std::false_type {};
template <typename T>
struct ExplainsFailure<T, std::void_t<decltype(std::declval<T&>().Explain(std::declval<Failure&>()))>>
    : std::true_type {};

template <typename T>
void Explain(T& stored, Failure& failure) {
    if constexpr (ExplainsFailure<T>::value) stored.Explain(failure);
}

template <auto function, Awaited awaited>
class BlockingCall;

template <typename Result, typename... Parameters, Result (*function)(Parameters...), Awaited awaited>
class BlockingCall<function, awaited> final : public Bound<Parameters...> {
public:
    explicit BlockingCall(Arguments& arguments) : Bound<Parameters...>(arguments, awaited) {}

    static Napi::Value Call(const Napi::CallbackInfo& info) {
        Arguments arguments(info);
        auto* operation = Make<BlockingCall>(arguments);
        const auto promise = operation->promise();
        operation->Submit();
        return promise;
    }

    void Run() override {
        this->Attempt([this] {
            try {
                CallFunction();
            } catch (Failure& failure) {
                if (!this->aborted()) {
                    std::apply([&](auto&... each) { (Explain(each, failure), ...); }, this->stored_);
                }
                throw;
            }
        });
        this->Finish();
    }

private:
    void CallFunction() {
        if constexpr (std::is_void_v<Result>) {
            this->Apply(function);
        } else {
            value_ = Value(this->Apply(function));
        }
    }

    Value Answer() override { return std::move(value_); }

    Value value_;
};

// What an asynchronous call left in its completion.
struct AioResult {
    const char* syscall = nullptr;
    int64_t value = 0;
    uint64_t version = 0;  // of the object; RADOS only

    int64_t Check() const { return cephkit::Check(syscall, value); }
};

// Ceph's two kinds of completion, whose C types are the same void*. On creation they get an Aio to finish.
struct RbdCompletion {
    rbd_completion_t completion;
    operator rbd_completion_t() const { return completion; }

    static int Create(void* aio, rbd_callback_t callback, rbd_completion_t* completion) {
        return rbd_aio_create_completion(aio, callback, completion);
    }
    static void GetResult(rbd_completion_t completion, AioResult& result) {
        result.value = rbd_aio_get_return_value(completion);
    }
    static void Release(rbd_completion_t completion) { rbd_aio_release(completion); }
};

struct RadosCompletion {
    rados_completion_t completion;
    operator rados_completion_t() const { return completion; }

    static int Create(void* aio, rados_callback_t callback, rados_completion_t* completion) {
        return rados_aio_create_completion2(aio, callback, completion);
    }
    static void GetResult(rados_completion_t completion, AioResult& result) {
        result.value = rados_aio_get_return_value(completion);
        result.version = rados_aio_get_version(completion);
    }
    static void Release(rados_completion_t completion) { rados_aio_release(completion); }
};

// A parameter with a Ready() says whether the call may start. If not, a worker calls its Prepare(), which may
// block and throws Failure, and starts the call.
template <typename T, typename = void>
struct PreparesStart : std::false_type {};
template <typename T>
struct PreparesStart<T, std::void_t<decltype(std::declval<T&>().Ready())>> : std::true_type {};

// A parameter with a ToValue() decides what the call answers, or throws; it also sees failures, for some
// leave a result all the same.
template <typename T, typename = void>
struct DecidesResult : std::false_type {};
template <typename T>
struct DecidesResult<T, std::void_t<decltype(std::declval<T&>()->ToValue(AioResult{}))>> : std::true_type {};

template <auto start, bool counts>
class AioCall;

template <typename Completion, typename... Parameters, int (*start)(Completion, Parameters...), bool counts>
class AioCall<start, counts> final : public Bound<Parameters...> {
public:
    using Bound<Parameters...>::Bound;

    static Napi::Value Call(const Napi::CallbackInfo& info) {
        AioCall* operation = New(info);
        const auto promise = operation->promise();
        if (operation->Ready()) {
            operation->Start();
        } else {
            operation->Submit();
        }
        return promise;
    }

    static Napi::Value CallOnWorker(const Napi::CallbackInfo& info) {
        AioCall* operation = New(info);
        const auto promise = operation->promise();
        operation->Submit();
        return promise;
    }

    void Run() override {
        this->Attempt([this] { std::apply([&](auto&... each) { (Prepare(each), ...); }, this->stored_); });
        if (this->failed()) return this->Finish();
        Start();
    }

private:
    static AioCall* New(const Napi::CallbackInfo& info) {
        Arguments arguments(info);
        auto* operation = Make<AioCall>(arguments);
        operation->result_.syscall = static_cast<const char*>(info.Data());
        return operation;
    }

    bool Ready() {
        return std::apply([&](auto&... each) { return (IsReady(each) && ...); }, this->stored_);
    }

    template <typename T>
    static bool IsReady(T& stored) {
        if constexpr (PreparesStart<T>::value) return stored.Ready();
        return true;
    }

    template <typename T>
    void Prepare(T& stored) {
        if constexpr (PreparesStart<T>::value) stored.Prepare(result_.syscall);
    }

    void Start() {
        void* completion = nullptr;
        int result = Completion::Create(this, OnComplete, &completion);
        if (result == 0) {
            try {
                result = this->Apply([&](auto&&... each) {
                    return start(Completion{completion}, std::forward<decltype(each)>(each)...);
                });
            } catch (const std::exception&) {
                // As above: of what it does before anything is queued, only a copy can fail.
                result = -ENOMEM;
            }
            if (result >= 0) return EndParts(1);
            Completion::Release(completion);
        }
        result_.value = result;
        EndParts(2);
    }

    // The start and the callback each have a part in the operation, and either may end first. It lasts for
    // both, and so does what it works on; where no callback will come, the start ends both.
    void EndParts(int count) {
        if (parts_.fetch_sub(count) == count) this->Finish();
    }

    // [librbd, librados] May only queue.
    static void OnComplete(void* completion, void* operation) {
        auto* self = static_cast<AioCall*>(operation);
        Completion::GetResult(completion, self->result_);
        Completion::Release(completion);
        self->EndParts(1);
    }

    Value Answer() override {
        std::optional<Value> value;
        std::apply([&](auto&... each) { (Decide(each, value), ...); }, this->stored_);
        if (value) return *std::move(value);
        const int64_t count = result_.Check();
        return counts ? Value(count) : Value();
    }

    template <typename T>
    void Decide(T& stored, std::optional<Value>& value) {
        if constexpr (DecidesResult<T>::value) value = stored->ToValue(result_);
    }

    std::atomic<int> parts_{2};
    AioResult result_;
};

template <auto function>
struct SyncCall;

template <typename Result, typename... Parameters, Result (*function)(Parameters...)>
struct SyncCall<function> {
    static Napi::Value Call(const Napi::CallbackInfo& info) {
        Arguments arguments(info);
        StoredTuple<Parameters...> stored{Parameter<Parameters>::Take(arguments)...};
        try {
            return std::apply(
                [&](auto&... each) {
                    if constexpr (std::is_void_v<Result>) {
                        function(Parameter<Parameters>::Pass(each)...);
                        return info.Env().Undefined();
                    } else {
                        return Value(function(Parameter<Parameters>::Pass(each)...)).ToJs(info.Env());
                    }
                },
                stored);
        } catch (const Failure& failure) {
            throw ToJs(info.Env(), failure);
        }
    }
};

class Exports {
public:
    explicit Exports(Napi::Object exports) : exports_(exports) {}

    template <auto function>
    void Blocking(const char* name) {
        Add(name, BlockingCall<function, Awaited::kYes>::Call, nullptr);
    }
    template <auto function>
    void Unawaited(const char* name) {
        Add(name, BlockingCall<function, Awaited::kNo>::Call, nullptr);
    }
    template <auto start>
    void Aio(const char* name, const char* syscall) {
        Add(name, AioCall<start, false>::Call, const_cast<char*>(syscall));
    }
    template <auto start>
    void AioCount(const char* name, const char* syscall) {
        Add(name, AioCall<start, true>::Call, const_cast<char*>(syscall));
    }
    template <auto start>
    void AioOnWorker(const char* name, const char* syscall) {
        Add(name, AioCall<start, false>::CallOnWorker, const_cast<char*>(syscall));
    }
    template <auto function>
    void Sync(const char* name) {
        Add(name, SyncCall<function>::Call, nullptr);
    }
    // For the few that need more of Node-API.
    void Raw(const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
        Add(name, function, nullptr);
    }

private:
    template <typename Function>
    void Add(const char* name, Function function, void* data) {
        exports_.Set(name, Napi::Function::New(exports_.Env(), function, name, data));
    }

    Napi::Object exports_;
};

}  // namespace cephkit
