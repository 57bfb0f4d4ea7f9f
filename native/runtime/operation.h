// One call from JavaScript, from its start until its promise settles.
//
// Made and destroyed on the JS thread. In between, exactly one thread calls Finish() exactly once.
#pragma once
#include <napi.h>

#include <atomic>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/environment.h"
#include "runtime/failure.h"
#include "runtime/handle.h"
#include "runtime/value.h"

namespace cephkit {

// Set by an AbortSignal. Whoever works for the operation looks at it when it can stop.
struct AbortToken {
    std::atomic<bool> aborted{false};

    static Napi::Value New(const Napi::CallbackInfo& info);
    static Napi::Value Abort(const Napi::CallbackInfo& info);
    // nullptr when the value is no token.
    static std::shared_ptr<AbortToken> FromJs(Napi::Value value);
};

// Whether the event loop, and the end of the environment, wait for an operation.
enum class Awaited { kYes, kNo };

class Operation : public Delivery {
public:
    explicit Operation(Napi::Env env, Awaited awaited = Awaited::kYes);

    // The handle stays open until the operation has settled.
    void Hold(std::shared_ptr<Handle> handle);

    Napi::Promise promise() const { return deferred_.Promise(); }

    // [any thread] The operation may be gone when this returns.
    void Finish() { environment_->inbox().Post(this); }

    void Deliver(Napi::Env env) override;
    void Discard() override;

protected:
    using Outcome = std::variant<Value, Failure>;

    // Called once, after Finish().
    virtual Outcome TakeOutcome() = 0;

    Environment& environment() { return *environment_; }

private:
    // What happens however the operation ended: takes in what it opened, lets go of what it held.
    Outcome Conclude();

    std::shared_ptr<Environment> environment_;
    const Awaited awaited_;
    Napi::Promise::Deferred deferred_;
    std::vector<std::shared_ptr<Handle>> handles_;
};

Napi::Error ToJs(Napi::Env env, const Failure& failure);

}  // namespace cephkit
