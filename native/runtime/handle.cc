#include "runtime/handle.h"

#include "runtime/environment.h"
#include "runtime/operation.h"

namespace cephkit {
namespace {

constexpr napi_type_tag handle_tag = {0x3c8d1e90b7f24a65, 0xa1f0d2c4865b7e93};

}  // namespace

Napi::Value Handle::ToJs(Napi::Env env, const std::shared_ptr<Handle>& handle) {
    using Shared = std::shared_ptr<Handle>;
    auto external = Napi::External<Shared>::New(env, new Shared(handle), [](Napi::Env, Shared* shared) {
        // The program forgot it. At the end of the environment, Environment::End() has closed everything
        // already.
        if (!(*shared)->environment_->ending()) (*shared)->Close(nullptr);
        delete shared;
    });
    external.TypeTag(&handle_tag);
    return external;
}

std::shared_ptr<Handle> Handle::FromJs(Napi::Value value) {
    if (!value.IsExternal()) return nullptr;
    auto external = value.As<Napi::External<std::shared_ptr<Handle>>>();
    return external.CheckTypeTag(&handle_tag) ? *external.Data() : nullptr;
}

void Handle::Opened(const std::shared_ptr<Environment>& environment) {
    environment_ = environment;
    if (parent_ == nullptr) {
        environment_->AddRoot(shared_from_this());
    } else {
        parent_->children_.insert(shared_from_this());
    }
    if (keeps_loop_alive()) environment_->Hold();
    // Opened too late: whoever closed the parent meant this one too.
    if (environment_->ending() || (parent_ != nullptr && !parent_->open())) Close(nullptr);
}

void Handle::OperationEnded() {
    operations_--;
    DestroyWhenIdle();
}

void Handle::Close(ClosedCallback closed) {
    if (state_ == State::kClosed) {
        if (closed) closed(failure_);
        return;
    }
    if (closed) waiting_.push_back(std::move(closed));
    if (state_ != State::kOpen) return;
    state_ = State::kClosing;
    const auto children = children_;
    for (const auto& child : children)
        child->Close(nullptr);
    DestroyWhenIdle();
}

void Handle::DestroyWhenIdle() {
    if (state_ != State::kClosing || operations_ > 0 || !children_.empty()) return;
    state_ = State::kDestroying;
    StartDestroy(new Closing(shared_from_this()));
}

void Handle::StartDestroy(Closing* closing) {
    environment_->workers().Submit(closing);
}

void Handle::Closed(const std::optional<Failure>& failure) {
    state_ = State::kClosed;
    failure_ = failure;
    Release();
    if (keeps_loop_alive()) environment_->Unhold();
    if (parent_ == nullptr) {
        environment_->RemoveRoot(shared_from_this());
    } else {
        parent_->children_.erase(shared_from_this());
        parent_->DestroyWhenIdle();
        parent_ = nullptr;
    }
    for (const auto& closed : std::exchange(waiting_, {}))
        closed(failure_);
}

Handle::Closing::Closing(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {
    handle_->environment_->OperationStarted();
}

void Handle::Closing::Ended(std::optional<Failure> failure) {
    failure_ = std::move(failure);
    handle_->environment_->inbox().Post(this);
}

void Handle::Closing::Run() {
    Ended(Caught([this] { handle_->Destroy(); }));
}

// What is open must be closed, so this goes back to the end of the line.
void Handle::Closing::Cancel() {
    handle_->environment_->workers().Submit(this);
}

void Handle::Closing::Deliver(Napi::Env) {
    Discard();
}

void Handle::Closing::Discard() {
    std::unique_ptr<Closing> self(this);
    handle_->environment_->OperationEnded();
    handle_->Closed(failure_);
}

}  // namespace cephkit
