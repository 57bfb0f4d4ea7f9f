// All state of one JavaScript environment (the main thread's, or a worker thread's). There are no globals.
#pragma once
#include <napi.h>

#include <memory>
#include <set>

#include "runtime/inbox.h"
#include "runtime/workers.h"

namespace cephkit {

class Handle;
class Operation;

class Environment : public std::enable_shared_from_this<Environment> {
public:
    static void Create(Napi::Env env);
    static std::shared_ptr<Environment> Of(Napi::Env env);

    explicit Environment(Napi::Env env);

    Inbox& inbox() { return inbox_; }
    Workers& workers() { return *workers_; }
    bool ending() const { return ending_; }

    // Every open handle without a parent, that is, every cluster.
    void AddRoot(std::shared_ptr<Handle> handle) { roots_.insert(std::move(handle)); }
    void RemoveRoot(const std::shared_ptr<Handle>& handle) { roots_.erase(handle); }

    // Keeps the event loop alive. Counted.
    void Hold();
    void Unhold();

    // Operations that have started and not settled keep the event loop alive too, and End() waits for them.
    void OperationStarted();
    void OperationEnded();

    // Buffers of JavaScript that librbd or librados may write to at any moment.
    void BufferPinned() { pinned_buffers_++; }
    void BufferUnpinned() { pinned_buffers_--; }

private:
    // Closes what is open and waits for what is running. No JavaScript runs any more.
    void End();

    Napi::Env env_;
    Inbox inbox_;
    std::shared_ptr<Workers> workers_;
    std::set<std::shared_ptr<Handle>> roots_;
    size_t operations_ = 0;
    size_t pinned_buffers_ = 0;
    bool ending_ = false;
};

}  // namespace cephkit
