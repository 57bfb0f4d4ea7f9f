// What other threads have for the JS thread.
//
// Any number of deliveries cost one wake-up: only the first into an empty inbox wakes the event loop, which
// then takes all there is, so a burst of completions settles in one turn.
#pragma once
#include <napi.h>
#include <uv.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>

namespace cephkit {

class Delivery {
public:
    virtual ~Delivery() = default;

    // Takes effect, and may call JavaScript.
    virtual void Deliver(Napi::Env env) = 0;

    // Instead of Deliver when the environment ends: must not call JavaScript.
    virtual void Discard() = 0;
};

class Inbox {
public:
    explicit Inbox(Napi::Env env);
    Inbox(const Inbox&) = delete;

    // [any thread] Once the inbox is closed nobody is left to take the delivery, and it is leaked: what it
    // refers to went with the environment.
    void Post(Delivery* delivery);

    // While held, the event loop stays alive. Counted.
    void Hold();
    void Unhold();

    // The next delivery, or nullptr when the deadline passes first. For the end of the environment, when the
    // event loop does not run any more.
    Delivery* Wait(std::chrono::steady_clock::time_point deadline);

    // Nothing wakes the event loop after this.
    void Silence();
    void Close();

private:
    static void OnWake(uv_async_t* wake);
    static void OnCleanup(napi_async_cleanup_hook_handle hook, void* inbox);
    void DeliverAll();

    Napi::Env env_;
    napi_async_context context_ = nullptr;
    // libuv lets go of it when the environment has ended.
    uv_async_t* wake_ = new uv_async_t();
    size_t holds_ = 0;
    // Taken from the inbox, not yet delivered. A member, because a delivery may end the process in mid-batch.
    std::deque<Delivery*> batch_;

    std::mutex mutex_;
    std::condition_variable arrived_;
    std::deque<Delivery*> posted_;
    bool silent_ = false;
    bool closed_ = false;
    // Threads that are about to wake the event loop.
    std::atomic<size_t> wakers_{0};
};

}  // namespace cephkit
