// Something of Ceph's that is open: a cluster, an ioctx, an image, a watch.
//
// Lifetimes are a graph: a handle keeps its parent open, work in flight keeps its handle open, and closing a
// handle first closes what was opened through it. Closing is requested on the JS thread (by close(), by the
// garbage collector, or by the end of the environment), happens once on a worker, and only after the last
// operation in flight and the last child. All state here belongs to the JS thread.
#pragma once
#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "runtime/failure.h"
#include "runtime/inbox.h"
#include "runtime/workers.h"

namespace cephkit {

class Environment;

class Handle : public std::enable_shared_from_this<Handle> {
public:
    using ClosedCallback = std::function<void(const std::optional<Failure>&)>;

    explicit Handle(std::shared_ptr<Handle> parent = nullptr) : parent_(std::move(parent)) {}
    Handle(const Handle&) = delete;
    virtual ~Handle() = default;

    // For handles that bring events, which a program may wait for without anything else to do.
    virtual bool keeps_loop_alive() const { return false; }

    static Napi::Value ToJs(Napi::Env env, const std::shared_ptr<Handle>& handle);
    // nullptr when the value is no handle.
    static std::shared_ptr<Handle> FromJs(Napi::Value value);

    // Joins the graph. Until then the handle is a result on its way, known to its operation only.
    void Opened(const std::shared_ptr<Environment>& environment);

    bool open() const { return state_ == State::kOpen; }

    // Brackets every operation on the handle.
    void OperationStarted() { operations_++; }
    void OperationEnded();

    // Safe to call again. The callback, which may be null, runs when all is closed; it gets what the native
    // close reported the first time.
    void Close(ClosedCallback closed);

protected:
    class Closing;

    // [JS thread] Starts the native close. The closing is told how it ended; the handle is closed either way.
    virtual void StartDestroy(Closing* closing);

    // [worker] The native close, where it blocks. Throws Failure.
    virtual void Destroy() {}

    // [JS thread] After the native close: lets go of what belongs to JavaScript.
    virtual void Release() {}

private:
    enum class State { kOpen, kClosing, kDestroying, kClosed };

    void DestroyWhenIdle();
    void Closed(const std::optional<Failure>& failure);

    std::shared_ptr<Handle> parent_;
    std::shared_ptr<Environment> environment_;
    // Strong, and so a cycle with the child's parent_, until the child is closed.
    std::set<std::shared_ptr<Handle>> children_;
    State state_ = State::kOpen;
    size_t operations_ = 0;
    std::vector<ClosedCallback> waiting_;
    std::optional<Failure> failure_;
};

// The native close of one handle: an operation of its own, so that the event loop and the end of the
// environment wait for it. It answers no promise.
class Handle::Closing final : public Delivery, public Job {
public:
    explicit Closing(std::shared_ptr<Handle> handle);

    // [any thread] Exactly once. The closing may be gone when this returns.
    void Ended(std::optional<Failure> failure);

    void Run() override;
    void Cancel() override;
    void Deliver(Napi::Env env) override;
    void Discard() override;

private:
    std::shared_ptr<Handle> handle_;
    std::optional<Failure> failure_;
};

}  // namespace cephkit
