#include "runtime/environment.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <vector>

#include "runtime/handle.h"

namespace cephkit {
namespace {

// As many blocking calls run at once. More would wait in the OSDs' queues instead of ours.
constexpr size_t max_workers = 64;

// How long the end of an environment waits for its calls, and for what is to be closed.
constexpr std::chrono::seconds end_limit(5);

// What the process exits with, once the main thread has ended its environment. Node then ends the worker
// threads, and waits for them.
constexpr int not_exiting = INT_MIN;
std::atomic<int> process_exit_status{not_exiting};

std::atomic<bool> left_running{false};

}  // namespace

void Environment::Create(Napi::Env env) {
    auto* environment = new std::shared_ptr<Environment>(std::make_shared<Environment>(env));
    env.SetInstanceData(environment);
    // Registered after the inbox, so it runs before the inbox's wake-up is torn down.
    env.AddCleanupHook([environment] { (*environment)->End(std::nullopt); });
}

const std::shared_ptr<Environment>& Environment::Of(Napi::Env env) {
    return *env.GetInstanceData<std::shared_ptr<Environment>>();
}

Environment::Environment(Napi::Env env) : inbox_(env), workers_(std::make_shared<Workers>(max_workers)) {}

void Environment::Hold() {
    if (!ending_) inbox_.Hold();
}

void Environment::Unhold() {
    if (!ending_) inbox_.Unhold();
}

void Environment::OperationStarted() {
    operations_++;
    Hold();
}

void Environment::OperationEnded() {
    operations_--;
    Unhold();
}

void Environment::End(std::optional<int> exit_status) {
    if (ending_.exchange(true)) return;
    inbox_.Silence();
    for (Job* job : workers_->TakeQueued())
        job->Cancel();
    const auto roots = roots_;
    for (const auto& root : roots)
        root->Close(nullptr);

    WaitForOperations(exit_status.has_value());
    if (operations_ > 0 || left_running) on_exit([](int status, void*) { _exit(status); }, nullptr);
    inbox_.Close();
    workers_->Stop();
    // Last, for what ends the process must not come before.
    if (exit_status) process_exit_status = *exit_status;
}

void Environment::LeaveRunning() {
    left_running = true;
}

void Environment::WaitForOperations(bool process_exits) {
    auto deadline = std::chrono::steady_clock::now() + end_limit;
    int exit_status = process_exit_status;
    while (operations_ > 0) {
        if (Delivery* delivery = inbox_.Wait(deadline)) {
            delivery->Discard();
            continue;
        }
        if (pinned_buffers_ == 0 || process_exits) return;
        // The main thread has had as long for what it does at its exit, and waits for this thread, which must
        // not return before its buffers are free.
        if (exit_status != not_exiting) _exit(exit_status);
        exit_status = process_exit_status;
        deadline += end_limit;
    }
}

}  // namespace cephkit
