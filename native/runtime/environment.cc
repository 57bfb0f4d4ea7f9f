#include "runtime/environment.h"

#include <stdlib.h>
#include <unistd.h>

#include <vector>

#include "runtime/handle.h"

namespace cephkit {
namespace {

// As many blocking calls run at once. More would wait in the OSDs' queues instead of ours.
constexpr size_t max_workers = 64;

// How long the end of an environment waits for calls on a cluster that does not answer.
constexpr std::chrono::seconds end_limit(5);

}  // namespace

void Environment::Create(Napi::Env env) {
    auto* environment = new std::shared_ptr<Environment>(std::make_shared<Environment>(env));
    env.SetInstanceData(environment);
    // Registered after the inbox, so it runs before the inbox's wake-up is torn down.
    env.AddCleanupHook([environment] { (*environment)->End(false); });
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

void Environment::End(bool process_exits) {
    if (ending_) return;
    ending_ = true;
    inbox_.Silence();
    for (Job* job : workers_->TakeQueued())
        job->Cancel();
    const auto roots = roots_;
    for (const auto& root : roots)
        root->Close(nullptr);

    auto deadline = std::chrono::steady_clock::now() + end_limit;
    while (operations_ > 0) {
        if (Delivery* delivery = inbox_.Wait(deadline)) {
            delivery->Discard();
        } else if (pinned_buffers_ > 0 && !process_exits) {
            deadline += end_limit;
        } else {
            break;
        }
    }
    if (operations_ > 0) on_exit([](int status, void*) { _exit(status); }, nullptr);
    inbox_.Close();
    workers_->Stop();
}

}  // namespace cephkit
