#include "runtime/inbox.h"

#include <thread>

namespace cephkit {

Inbox::Inbox(Napi::Env env) : env_(env) {
    napi_status status = napi_async_init(env, nullptr, Napi::String::New(env, "cephkit"), &context_);
    NAPI_THROW_IF_FAILED_VOID(env, status);
    uv_loop_t* loop = nullptr;
    status = napi_get_uv_event_loop(env, &loop);
    NAPI_THROW_IF_FAILED_VOID(env, status);
    wake_->data = this;
    uv_async_init(loop, wake_, OnWake);
    uv_unref(reinterpret_cast<uv_handle_t*>(wake_));
    status = napi_add_async_cleanup_hook(env, OnCleanup, this, nullptr);
    NAPI_THROW_IF_FAILED_VOID(env, status);
}

void Inbox::OnCleanup(napi_async_cleanup_hook_handle hook, void* inbox) {
    auto* self = static_cast<Inbox*>(inbox);
    napi_async_destroy(self->env_, self->context_);
    self->wake_->data = hook;
    uv_close(reinterpret_cast<uv_handle_t*>(self->wake_), [](uv_handle_t* wake) {
        napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(wake->data));
        delete reinterpret_cast<uv_async_t*>(wake);
    });
}

void Inbox::Post(Delivery* delivery) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (closed_) return;
        posted_.push_back(delivery);
        if (silent_) return arrived_.notify_one();
        if (posted_.size() > 1) return;
        wakers_++;
    }
    // Not under the lock, which the thread that wakes up would wait for, and be woken again.
    uv_async_send(wake_);
    wakers_--;
}

void Inbox::Hold() {
    if (holds_++ == 0) uv_ref(reinterpret_cast<uv_handle_t*>(wake_));
}

void Inbox::Unhold() {
    if (--holds_ == 0) uv_unref(reinterpret_cast<uv_handle_t*>(wake_));
}

Delivery* Inbox::Wait(std::chrono::steady_clock::time_point deadline) {
    if (batch_.empty()) {
        std::unique_lock<std::mutex> lock(mutex_);
        if (!arrived_.wait_until(lock, deadline, [this] { return !posted_.empty(); })) return nullptr;
        batch_.swap(posted_);
    }
    Delivery* delivery = batch_.front();
    batch_.pop_front();
    return delivery;
}

void Inbox::Silence() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        silent_ = true;
    }
    while (wakers_ > 0)
        std::this_thread::yield();
}

void Inbox::Close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
}

void Inbox::OnWake(uv_async_t* wake) {
    static_cast<Inbox*>(wake->data)->DeliverAll();
}

void Inbox::DeliverAll() {
    const Napi::HandleScope handles(env_);
    // Runs what awaits the deliveries when all are made.
    const Napi::CallbackScope callback(env_, context_);
    {
        std::lock_guard<std::mutex> lock(mutex_);
        batch_.insert(batch_.end(), posted_.begin(), posted_.end());
        posted_.clear();
    }
    while (!batch_.empty()) {
        Delivery* delivery = batch_.front();
        batch_.pop_front();
        Napi::HandleScope scope(env_);
        try {
            delivery->Deliver(env_);
        } catch (const Napi::Error& error) {
            // One listener's exception must not cost the others their deliveries.
            napi_fatal_exception(env_, error.Value());
        }
    }
}

}  // namespace cephkit
