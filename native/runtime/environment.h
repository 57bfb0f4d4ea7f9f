// All state of one JavaScript environment (the main thread's, or a worker thread's). Two things are
// global: that the process exits, which worker threads hear of from nobody else, and how it has to.
#pragma once
#include <napi.h>

#include <atomic>
#include <memory>
#include <optional>
#include <set>

#include "runtime/inbox.h"
#include "runtime/workers.h"

namespace cephkit {

class Handle;
class Operation;

class Environment : public std::enable_shared_from_this<Environment> {
public:
    static void Create(Napi::Env env);
    static const std::shared_ptr<Environment>& Of(Napi::Env env);

    explicit Environment(Napi::Env env);

    Inbox& inbox() { return inbox_; }
    Workers& workers() { return *workers_; }
    // [any thread]
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

    // Buffers of JavaScript that librbd may read or write at any moment. They go with a worker thread, so its
    // end waits for them without a limit; the connection's time-outs end that, or the end of the process.
    void BufferPinned() { pinned_buffers_++; }
    void BufferUnpinned() { pinned_buffers_--; }

    // Closes what is open and waits for what is running; no promise settles any more. Called when JavaScript
    // says that the process exits, with that status, for then Node runs no cleanup hooks, and by the cleanup
    // hook at the end of a worker thread.
    //
    // There is a while for all of it, and what still runs then, as it does where a cluster hangs, is
    // abandoned: in a process that exits, which then skips its destructors, for they would take librados
    // apart under its threads.
    void End(std::optional<int> exit_status);

    // [any thread] Has the process skip them in any case: something of Ceph's is never closed.
    static void LeaveRunning();

private:
    void WaitForOperations(bool process_exits);

    Inbox inbox_;
    std::shared_ptr<Workers> workers_;
    std::set<std::shared_ptr<Handle>> roots_;
    size_t operations_ = 0;
    size_t pinned_buffers_ = 0;
    std::atomic<bool> ending_{false};
};

}  // namespace cephkit
