#include "runtime/operation.h"

namespace cephkit {
namespace {

constexpr napi_type_tag abort_token_tag = {0x6b1f5c0f2a9d4e31, 0x9d7e0a54c3b2f816};

}  // namespace

Napi::Value AbortToken::New(const Napi::CallbackInfo& info) {
    using Shared = std::shared_ptr<AbortToken>;
    auto token = Napi::External<Shared>::New(info.Env(), new Shared(std::make_shared<AbortToken>()),
                                             [](Napi::Env, Shared* shared) { delete shared; });
    token.TypeTag(&abort_token_tag);
    return token;
}

Napi::Value AbortToken::Abort(const Napi::CallbackInfo& info) {
    const auto token = FromJs(info[0]);
    if (token == nullptr) throw Napi::TypeError::New(info.Env(), "abort: not an abort token");
    token->aborted = true;
    return info.Env().Undefined();
}

std::shared_ptr<AbortToken> AbortToken::FromJs(Napi::Value value) {
    if (!value.IsExternal()) return nullptr;
    auto external = value.As<Napi::External<std::shared_ptr<AbortToken>>>();
    return external.CheckTypeTag(&abort_token_tag) ? *external.Data() : nullptr;
}

Operation::Operation(Napi::Env env, Awaited awaited)
    : environment_(Environment::Of(env)), awaited_(awaited), deferred_(env) {
    if (awaited_ == Awaited::kYes) environment_->OperationStarted();
}

void Operation::Hold(std::shared_ptr<Handle> handle) {
    handle->OperationStarted();
    handles_.push_back(std::move(handle));
}

Operation::Outcome Operation::Conclude() {
    Outcome outcome = TakeOutcome();
    if (const auto* value = std::get_if<Value>(&outcome)) {
        // Before the parent is let go of, which may close it.
        if (const auto opened = value->handle()) opened->Opened(environment_);
    }
    for (const auto& handle : handles_)
        handle->OperationEnded();
    if (awaited_ == Awaited::kYes) environment_->OperationEnded();
    return outcome;
}

void Operation::Deliver(Napi::Env env) {
    std::unique_ptr<Operation> self(this);
    const Outcome outcome = Conclude();
    if (const auto* failure = std::get_if<Failure>(&outcome)) {
        deferred_.Reject(ToJs(env, *failure).Value());
        return;
    }
    Napi::Value value;
    try {
        value = std::get<Value>(outcome).ToJs(env);
    } catch (const Napi::Error& error) {
        // It cannot be a value of JavaScript's, such as a string beyond its longest.
        deferred_.Reject(error.Value());
        return;
    }
    deferred_.Resolve(value);
}

void Operation::Discard() {
    std::unique_ptr<Operation> self(this);
    Conclude();
}

Napi::Error ToJs(Napi::Env env, const Failure& failure) {
    auto error = Napi::Error::New(env, failure.detail);
    error.Set("errno", Napi::Number::New(env, -failure.error));
    error.Set("syscall", Napi::String::New(env, failure.syscall));
    return error;
}

}  // namespace cephkit
